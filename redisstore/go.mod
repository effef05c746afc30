module github.com/seed-0f2c7998/perdure/redisstore

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/redis/rueidis v1.0.79
	github.com/seed-0f2c7998/perdure v0.1.0
)

require golang.org/x/sys v0.49.0 // indirect
