module github.com/seed-0f2c7998/perdure/vet

go 1.26.0

require (
	github.com/seed-0f2c7998/perdure v0.1.0
	golang.org/x/tools v0.52.0
)

require (
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
)
