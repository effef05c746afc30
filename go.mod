module github.com/seed-0f2c7998/perdure

go 1.26
