module github.com/seed-0f2c7998/perdure/otelretry

go 1.26
