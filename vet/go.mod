module github.com/seed-0f2c7998/perdure/vet

go 1.26
