package awsretry_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A header that net/http refuses to send is the caller's error. It used to be
// retried as if the service had not responded, and to open its breaker.
func TestHeaderThatCannotBeSentIsNoAttempt(t *testing.T) {
	server := start(t)
	p := quick()
	attempts := 0
	p.Observe = func(context.Context, retry.Event) { attempts++ }
	p.Breaker = circuit.New("s3_upload", circuit.Config{FailureThreshold: 1, Observe: func(context.Context, circuit.Transition) {}})
	client := connect(t, server, &p)
	for name, in := range map[string]s3.PutObjectInput{
		"X-Amz-Meta-Note": {Metadata: map[string]string{"Note": "two\nlines of a secret"}},
		"\"My Note\"":     {Metadata: map[string]string{"my note": "x"}},
		"Content-Type":    {ContentType: aws.String("text/csv\x00 of a secret")},
	} {
		in.Bucket, in.Key, in.Body = aws.String(bucket), aws.String("k"), bytes.NewReader([]byte("x"))
		_, err := client.PutObject(t.Context(), &in)
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(strings.Trim(name, `"`))) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want an error that names it, and not its value", name, err)
		}
	}
	if n := server.Count("", ""); n != 0 || attempts != 0 || p.Breaker.State() != circuit.Closed {
		t.Errorf("%d requests, %d events, the breaker is %v, want none, none, closed", n, attempts, p.Breaker.State())
	}
	// What may stand in a header still may.
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), Body: bytes.NewReader([]byte("x")),
		Metadata: map[string]string{"städte_1.a~b": "x"},
	}); err == nil {
		t.Error("a name that is not ASCII is no error")
	}
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String("k"), Body: bytes.NewReader([]byte("x")),
		Metadata: map[string]string{"a_1.b~c": "and space"},
	}); err != nil {
		t.Error(err)
	}
}
