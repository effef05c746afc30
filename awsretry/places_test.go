package awsretry_test

import (
	"context"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A call is in flight until its response body has ended or is closed.
func TestABodyHoldsItsPlace(t *testing.T) {
	b := circuit.New("s3", circuit.Config{Concurrency: 1})
	c := connect(t, start(t), &retry.Policy{Breaker: b, Observe: func(context.Context, retry.Event) {}})
	want := func(when string, n int) {
		t.Helper()
		if got := b.Metrics().InFlight; got != n {
			t.Errorf("%s, %d calls are in flight, want %d", when, got, n)
		}
	}
	if err := put(t.Context(), c, "key", []byte("text")); err != nil {
		t.Fatal(err)
	}
	want("after a PUT", 0)
	for _, read := range []bool{false, true} {
		out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("key")})
		if err != nil {
			t.Fatal(err)
		}
		want("with a body", 1)
		if read {
			_, _ = io.Copy(io.Discard, out.Body)
			want("at its end", 0)
		}
		out.Body.Close()
		want("with a closed body", 0)
	}
	if err := get(t.Context(), c, "missing"); err == nil {
		t.Error("there is a missing object")
	}
	want("after an error", 0)
}
