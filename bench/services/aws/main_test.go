package main

import (
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// Three of ten requests fail: the store asks to slow down, has an internal error, or cannot be reached by its gateway.
func TestAWS(t *testing.T) {
	const objects = 25
	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
	var requests atomic.Int64
	server.SetScript(func(s3test.Request) s3test.Fault {
		switch requests.Add(1) % 10 {
		case 1:
			return s3test.SlowDown()
		case 4:
			return s3test.InternalError()
		case 8:
			return s3test.Failure(502, "BadGateway")
		}
		return s3test.Fault{}
	})
	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	}
	if err := run(t.Context(), cfg, "bikes", objects); err != nil {
		t.Fatal(err)
	}
	if n := len(server.Requests()); n != 72 {
		t.Errorf("%d requests, want 72", n)
	}
}
