{{- /* Takes {root, name, component, version}; the version is that of the images if absent. */}}
{{- define "kappawatt.podLabels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .version | default .root.Values.global.image.tag | default .root.Chart.AppVersion | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: kappawatt
{{- end }}

{{- define "kappawatt.labels" -}}
{{ include "kappawatt.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "kappawatt-%s" .root.Chart.Version }}
{{- end }}

{{- /* "true" or empty: auto asks whether the cluster knows the API. Takes {given, api, root}. */}}
{{- define "kappawatt.auto" -}}
{{- if eq (toString .given) "auto" }}{{ if .root.Capabilities.APIVersions.Has .api }}true{{ end }}
{{- else if .given }}true{{ end }}
{{- end }}

{{- /* Environment entries of which none has another's name, which the API server would refuse: the last one counts. */}}
{{- define "kappawatt.lastOfEachName" -}}
{{- $last := dict }}
{{- range $index, $entry := . }}{{ $_ := set $last $entry.name $index }}{{ end }}
{{- $kept := list }}
{{- range $index, $entry := . }}{{ if eq $index (index $last $entry.name) }}{{ $kept = append $kept $entry }}{{ end }}{{ end }}
{{- toYaml $kept }}
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
      env:
        {{- include "kappawatt.lastOfEachName" (include "kafka.env" .root | fromYamlArray) | nindent 8 }}
        - name: KAPPAWATT_GATEWAY_URL
          value: http://{{ .root.Release.Name }}-gateway:{{ dig "service" "port" 8080 .root.Values.gateway }}
        {{- with .env }}{{ . | nindent 8 }}{{ end }}
      resources:
        requests: {cpu: 50m, memory: 64Mi}
        limits: {cpu: "1", memory: 256Mi}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- include "kafka.volumeMount" .root | nindent 8 }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
    {{- include "kafka.volume" .root | nindent 4 }}
{{- end }}
