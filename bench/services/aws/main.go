// Command aws is examples/services/aws with failsafe-go around the SDK, whose own retries are off. A call with expired
// credentials or a wrong clock is not repeated at once, and there are no metrics.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

func main() {
	bucket := flag.String("bucket", "bikes", "`name` of the bucket")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err) //nolint:gocritic // nothing is left to stop
	}
	if err := run(ctx, cfg, *bucket, 100); err != nil {
		log.Fatal(err)
	}
}

// run writes n objects and compares each with what it reads back.
func run(ctx context.Context, cfg aws.Config, bucket string, n int) error {
	// resilience: begin
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	standard := retry.NewStandard()
	failed := func(_ any, err error) bool { return err != nil && standard.IsErrorRetryable(err) }
	retries := retrypolicy.NewBuilder[any]().HandleIf(failed).
		WithMaxAttempts(5).WithMaxDuration(30*time.Second).WithBackoff(50*time.Millisecond, 20*time.Second).WithJitterFactor(0.5).
		WithDelayFunc(retryAfter).WithBudget(budget.New()).AbortOnErrors(circuitbreaker.ErrOpen).ReturnLastFailure().Build()
	breaker := circuitbreaker.NewBuilder[any]().HandleIf(failed).
		WithFailureRateThreshold(0.5, 10, time.Second).WithDelay(500 * time.Millisecond).WithSuccessThreshold(3).Build()
	executor := failsafe.With[any](retries, breaker).WithContext(ctx)
	// resilience: end

	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for i := range n {
		key, content := fmt.Sprintf("rides/%03d.csv", i), fmt.Appendf(nil, "ride,%d\n", i)
		err := executor.Run(func() error {
			_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content)})
			return err
		})
		if err != nil {
			return err
		}
		var object *s3.GetObjectOutput
		err = executor.Run(func() (err error) {
			object, err = client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
			return err
		})
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

// resilience: begin

func retryAfter(e failsafe.ExecutionAttempt[any]) time.Duration {
	if res, ok := errors.AsType[*awshttp.ResponseError](e.LastError()); ok {
		if seconds, err := strconv.Atoi(res.HTTPResponse().Header.Get("Retry-After")); err == nil {
			return time.Duration(seconds) * time.Second
		}
	}
	return -1
}

// resilience: end
