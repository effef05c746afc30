// Command aws writes objects to S3 and reads them back, with retries, a circuit breaker and a retry budget for the store.
// Its metrics are at /metrics of the address -admin, its spans in the log.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/examples/services/internal/service"
	"github.com/seed-0f2c7998/perdure/retry"
)

func main() {
	bucket := flag.String("bucket", "bikes", "`name` of the bucket")
	service.Main(func(ctx context.Context, t *service.Telemetry) error {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return err
		}
		return run(ctx, t, cfg, *bucket, 25)
	})
}

// run writes n objects and compares each with what it reads back.
func run(ctx context.Context, t *service.Telemetry, cfg aws.Config, bucket string, n int) error {
	// resilience: begin
	policy := retry.Service()
	policy.MaxAttempts, policy.ThrottleDelay = 5, 100*time.Millisecond
	policy.Breaker, policy.Metrics, policy.Observe = circuit.New("s3", circuit.Service()), t.Registry, t.Observe
	awsretry.Apply(&cfg, &policy)
	// resilience: end

	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for i := range n {
		key, content := fmt.Sprintf("rides/%03d.csv", i), fmt.Appendf(nil, "ride,%d\n", i)
		put := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content)}
		if _, err := client.PutObject(ctx, put); err != nil {
			return err
		}
		object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		if err != nil {
			return err
		}
		got, err := io.ReadAll(object.Body)
		_ = object.Body.Close()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, content) {
			return fmt.Errorf("%s holds %q, want %q", key, got, content)
		}
	}
	return nil
}
