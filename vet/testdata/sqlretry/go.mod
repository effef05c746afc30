module github.com/seed-0f2c7998/perdure/sqlretry

go 1.26
