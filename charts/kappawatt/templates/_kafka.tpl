{{- /* How anything in the release talks to Kafka: services, tests, and Kafka alone, where no service is enabled. */}}

{{- /* Brokers: your own, or the umbrella's single node, named so that other namespaces find it. */}}
{{- define "kafka.bootstrap" -}}
{{ .Values.global.kafka.bootstrapServers | default (printf "%s-kafka.%s.svc:9092" .Release.Name .Release.Namespace) }}
{{- end }}

{{- /* Ports of the brokers, as JSON. */}}
{{- define "kafka.ports" -}}
{{- $ports := list }}
{{- range splitList "," (include "kafka.bootstrap" .) }}
{{- $ports = append $ports (splitList ":" . | last | int) }}
{{- end }}
{{- uniq $ports | toJson }}
{{- end }}

{{- /* "true" or empty: whether the brokers' certificates are of an authority of their own. */}}
{{- define "kafka.authority" -}}
{{- if and .Values.global.kafka.caKey (hasSuffix "SSL" .Values.global.kafka.securityProtocol) }}true{{ end }}
{{- end }}

{{- /* "true" or empty: whether clients show the brokers a certificate. */}}
{{- define "kafka.certificate" -}}
{{- if and .Values.global.kafka.certKey (hasSuffix "SSL" .Values.global.kafka.securityProtocol) }}true{{ end }}
{{- end }}

{{- /* "true" or empty: whether clients log in by a token. */}}
{{- define "kafka.tokens" -}}
{{- if and (eq .Values.global.kafka.saslMechanism "OAUTHBEARER") (hasPrefix "SASL" .Values.global.kafka.securityProtocol) }}true{{ end }}
{{- end }}

{{- define "kafka.env" -}}
{{- $kafka := .Values.global.kafka -}}
- {name: KAPPAWATT_BUS, value: {{ printf "kafka://%s" (include "kafka.bootstrap" .) | quote }}}
- {name: KAPPAWATT_KAFKA_CLIENT, value: {{ $kafka.client }}}
- {name: KAPPAWATT_KAFKA_SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol }}}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- {name: KAPPAWATT_KAFKA_SASL_MECHANISM, value: {{ $kafka.saslMechanism }}}
{{- if include "kafka.tokens" . }}
{{- with $kafka.oauth.tokenKey }}
- {name: KAPPAWATT_KAFKA_SASL_OAUTHBEARER_TOKEN_FILE, value: /run/secrets/kafka/{{ . }}}
{{- end }}
{{- with $kafka.oauth.tokenCommand }}
- {name: KAPPAWATT_KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND, value: {{ . | quote }}}
{{- end }}
{{- with $kafka.oauth.extensions }}
- {name: KAPPAWATT_KAFKA_SASL_OAUTHBEARER_EXTENSIONS, value: {{ . | quote }}}
{{- end }}
{{- else }}
- {name: KAPPAWATT_KAFKA_SASL_USERNAME, value: {{ $kafka.saslUsername | quote }}}
- {name: KAPPAWATT_KAFKA_SASL_PASSWORD_FILE, value: /run/secrets/kafka/password}
{{- end }}
{{- end }}
{{- if include "kafka.certificate" . }}
- {name: KAPPAWATT_KAFKA_SSL_CERTIFICATE_LOCATION, value: /run/secrets/kafka/{{ $kafka.certKey }}}
- {name: KAPPAWATT_KAFKA_SSL_KEY_LOCATION, value: /run/secrets/kafka/{{ $kafka.privateKeyKey }}}
{{- end }}
{{- if include "kafka.authority" . }}
- {name: KAPPAWATT_KAFKA_SSL_CA_LOCATION, value: /run/secrets/kafka/{{ $kafka.caKey }}}
{{- end }}
{{- range $name, $value := $kafka.settings }}
- {name: {{ printf "KAPPAWATT_KAFKA_%s" ($name | replace "." "_" | upper) }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "kafka.volumeMount" -}}
{{- if .Values.global.kafka.existingSecret }}
- {name: kafka, mountPath: /run/secrets/kafka, readOnly: true}
{{- end }}
{{- end }}

{{- define "kafka.volume" -}}
{{- with .Values.global.kafka.existingSecret }}
- {name: kafka, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}
