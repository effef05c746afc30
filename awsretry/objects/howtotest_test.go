package objects_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A test of docs/testing.md, as it stands there.

func TestUploadOutlastsABusyStore(t *testing.T) {
	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
	if err := server.SetFaults(s3test.Faults{Seed: 1, SlowDown: 0.3, Reset: 0.2}); err != nil {
		t.Fatal(err)
	}
	upload := retry.Policy{MaxAttempts: 20, BaseDelay: time.Millisecond, MaxDelay: time.Millisecond, Jitter: retry.NoJitter}
	store, err := objects.New(aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	}, objects.Options{Policy: &upload})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), "bikes", "hour.csv", strings.NewReader("42"), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if content, _ := server.Object("bikes", "hour.csv"); string(content) != "42" {
		t.Errorf("the store has %q", content)
	}
}
