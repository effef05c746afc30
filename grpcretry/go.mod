module github.com/seed-0f2c7998/perdure/grpcretry

go 1.26
