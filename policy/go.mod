module github.com/seed-0f2c7998/perdure/policy

go 1.26
