{{- /* Takes {root, name, component, version}; the version is that of the images if absent. */}}
{{- define "kappawatt.podLabels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .version | default .root.Values.global.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: kappawatt
{{- end }}

{{- define "kappawatt.labels" -}}
{{ include "kappawatt.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "kappawatt-%s" .root.Chart.Version }}
{{- end }}

{{- /* A Pod of `helm test`: takes {root, name, command}. */}}
{{- define "kappawatt.testPod" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ .root.Release.Name }}-test-{{ .name }}
  labels:
    {{- include "kappawatt.labels" (dict "root" .root "name" (printf "test-%s" .name) "component" "test") | nindent 4 }}
    kappawatt.io/bus: "true"
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
  {{- with .root.Values.global.image.pullSecrets }}
  imagePullSecrets: [{{ range . }}{name: {{ . }}},{{ end }}]
  {{- end }}
  containers:
    - name: test
      {{- $image := .root.Values.global.image }}
      image: {{ with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}/{{ .root.Values.tests.image }}:{{ $image.tag | default .root.Chart.AppVersion }}
      imagePullPolicy: {{ $image.pullPolicy }}
      command: {{- toYaml .command | nindent 8 }}
      env: {{- include "kafka.env" .root | nindent 8 }}
        - name: KAPPAWATT_GATEWAY_URL
          value: http://{{ .root.Release.Name }}-gateway:8080
        {{- with .env }}{{ . | nindent 8 }}{{ end }}
      resources:
        requests: {cpu: 50m, memory: 64Mi}
        limits: {memory: 256Mi}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "kafka.volumeMount" .root | nindent 8 }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
    {{- include "kafka.volume" .root | nindent 4 }}
{{- end }}
