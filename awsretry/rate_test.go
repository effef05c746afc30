package awsretry_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Operations wait for the rate of their breaker, and so do their retries.
func TestOperationsKeepToARate(t *testing.T) {
	t.Parallel()
	const puts, interval = 10, 20 * time.Millisecond
	server, cfg := busyStore()
	defer server.Close()
	p := retry.S3Upload()
	p.BaseDelay, p.ThrottleDelay, p.Jitter = time.Millisecond, time.Millisecond, retry.NoJitter
	p.Observe = func(context.Context, retry.Event) {}
	p.Breaker = circuit.New("bikes", circuit.Config{Rate: 50})
	awsretry.Apply(&cfg, &p)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	begin := time.Now()
	var all sync.WaitGroup
	for range puts {
		all.Go(func() {
			if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("bikes"), Key: aws.String("hour.csv"), Body: strings.NewReader("instant,cnt"),
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := server.Count("PUT", "")
	if least := time.Duration(n-2) * interval; n != puts+2 || time.Since(begin) < least {
		t.Errorf("%d requests in %v, want %d in %v at least", n, time.Since(begin), puts+2, least)
	}
}
