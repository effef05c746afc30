package awsretry_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestBrief(t *testing.T) {
	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(server.URL()), UsePathStyle: true, Region: "us-east-1",
		Credentials: aws.NewCredentialsCache(aws.AnonymousCredentials{}), RetryMaxAttempts: 1,
	})
	_, denied := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bikes"), Key: aws.String("k")})
	server.Script(func(s3test.Request) s3test.Fault { return s3test.SlowDown() })
	_, slow := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bikes"), Key: aws.String("k")})
	for _, c := range []struct {
		err  error
		want string
	}{
		{denied, "403 AccessDenied: Access Denied"},
		{fmt.Errorf("around: %w", slow), "503 SlowDown: s3test: this fault was asked for"},
		{errors.New("SlowDown"), ""},
		{io.ErrUnexpectedEOF, ""},
		{nil, ""},
	} {
		if got := awsretry.Brief(c.err); got != c.want {
			t.Errorf("Brief(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}
