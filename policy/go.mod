module github.com/seed-0f2c7998/perdure/policy

go 1.26.0

require (
	github.com/goccy/go-yaml v1.19.2
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.2
	github.com/seed-0f2c7998/perdure v0.1.0
)

require golang.org/x/text v0.43.0 // indirect
