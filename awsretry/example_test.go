package awsretry_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// busyStore returns a server that responds to the first two puts with SlowDown,
// and a configuration for it. A user's is that of config.LoadDefaultConfig.
func busyStore() (*s3test.Server, aws.Config) {
	server, err := s3test.New(s3test.Options{
		Buckets: []string{"bikes"},
		Script:  s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1, 2}, Fault: s3test.SlowDown()}),
	})
	if err != nil {
		panic(err)
	}
	return server, aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	}
}

// logger writes the log lines to stdout.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.MessageKey {
			return a
		}
		return slog.Attr{}
	}}))
}

func ExampleApply() {
	server, cfg := busyStore()
	defer server.Close()

	upload := retry.S3Upload()
	upload.Name = "upload_to_s3"
	upload.BaseDelay, upload.Jitter = 100*time.Millisecond, retry.NoJitter
	upload.Observe = retry.LogTo(logger())
	awsretry.Apply(&cfg, &upload)

	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err := client.PutObject(context.Background(), &s3.PutObjectInput{
		Bucket: aws.String("bikes"), Key: aws.String("hour.csv"), Body: strings.NewReader("instant,cnt"),
	})
	fmt.Println("requests:", server.Count("PUT", ""), "error:", err)
	// Output:
	// msg="Retrying upload_to_s3 in 0.1 seconds (attempt 1/5)"
	// msg="Retrying upload_to_s3 in 0.2 seconds (attempt 2/5)"
	// msg="upload_to_s3 succeeded on attempt 3"
	// requests: 3 error: <nil>
}

func ExampleApply_objects() {
	server, cfg := busyStore()
	defer server.Close()

	upload := retry.S3Upload()
	upload.BaseDelay, upload.Jitter = 10*time.Millisecond, retry.NoJitter
	upload.Observe = func(context.Context, retry.Event) {}
	store, err := objects.New(cfg, objects.Options{Policy: &upload})
	if err != nil {
		fmt.Println(err)
		return
	}
	put, err := store.Put(context.Background(), "bikes", "hour.csv", strings.NewReader("instant,cnt"), objects.PutOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(put.Size, "bytes, verified by", put.Verified)
	// Output:
	// 11 bytes, verified by crc32
}
