module example.org/service

go 1.26

require (
	github.com/aws/aws-sdk-go-v2/service/s3 v1.114.8
	github.com/seed-0f2c7998/perdure v0.1.0
	github.com/seed-0f2c7998/perdure/sqlretry v0.1.0
)

replace (
	github.com/aws/aws-sdk-go-v2/service/s3 => ./s3
	github.com/seed-0f2c7998/perdure => ../..
	github.com/seed-0f2c7998/perdure/sqlretry => ./sqlretry
)
