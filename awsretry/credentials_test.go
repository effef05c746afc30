package awsretry_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

func TestCredentialsThatCannotBeHadAreOneAttempt(t *testing.T) {
	server := start(t)
	cfg := load(t, server)
	asked := 0
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		asked++
		return aws.Credentials{}, &smithy.OperationError{ServiceID: "ec2imds", OperationName: "GetMetadata", Err: context.DeadlineExceeded}
	})
	p := quick()
	awsretry.Apply(&cfg, &p)
	err := put(t.Context(), s3.NewFromConfig(cfg, pathStyle), "k", nil)
	if err == nil || asked != 1 || server.Count("", "") != 0 {
		t.Errorf("no credentials: asked for %d times, %d requests, %v, want 1, 0", asked, server.Count("", ""), err)
	}
}

func TestExpiredCredentialsAreFetchedAgainOnce(t *testing.T) {
	server := start(t)
	server.SetScript(func(r s3test.Request) s3test.Fault {
		if r.N == 1 || strings.HasSuffix(r.Path, "never") {
			return s3test.Failure(400, "ExpiredToken")
		}
		return s3test.Fault{}
	})
	cfg := load(t, server)
	asked := 0
	cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		asked++
		return aws.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}, nil
	}))
	p := quick()
	p.BaseDelay, p.MaxDelay = time.Hour, time.Hour // not for this
	awsretry.Apply(&cfg, &p)
	client := s3.NewFromConfig(cfg, pathStyle)
	if err := put(t.Context(), client, "k", nil); err != nil || asked != 2 || server.Count("", "") != 2 {
		t.Errorf("expired once: asked for %d times, %d requests, %v, want 2, 2", asked, server.Count("", ""), err)
	}
	server.Reset()
	if err := put(t.Context(), client, "never", nil); err == nil || server.Count("", "") != 2 {
		t.Errorf("expired for ever: %d requests, %v, want 2", server.Count("", ""), err)
	}
	cfg = load(t, server) // static ones
	awsretry.Apply(&cfg, &p)
	server.Reset()
	if err := put(t.Context(), s3.NewFromConfig(cfg, pathStyle), "k", nil); err == nil || server.Count("", "") != 1 {
		t.Errorf("expired and always the same: %d requests, %v, want 1", server.Count("", ""), err)
	}
}

// Concurrent requests are signed with credentials that expire: the second half is refused after the first half has
// fetched new ones.
func TestExpiredCredentialsAreFetchedOnceForAll(t *testing.T) {
	const parallel = 8
	server := start(t)
	var arrived atomic.Int64
	all, renewed := make(chan struct{}), make(chan struct{})
	renewal := sync.OnceFunc(func() { close(renewed) })
	server.SetScript(func(r s3test.Request) s3test.Fault {
		if r.N > 1 {
			renewal()
			return s3test.Fault{}
		}
		n := arrived.Add(1)
		if n == parallel {
			close(all)
		}
		if <-all; n%2 == 0 {
			<-renewed
		}
		return s3test.Failure(400, "ExpiredToken")
	})
	cfg := load(t, server)
	var fetched atomic.Int64
	cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey, SessionToken: fmt.Sprint("session ", fetched.Add(1))}, nil
	}))
	p := quick()
	awsretry.Apply(&cfg, &p)
	client := s3.NewFromConfig(cfg, pathStyle)
	var group sync.WaitGroup
	for i := range parallel {
		group.Go(func() {
			if err := put(t.Context(), client, fmt.Sprint(i), nil); err != nil {
				t.Errorf("put %d: %v", i, err)
			}
		})
	}
	group.Wait()
	if fetched.Load() != 2 || server.Count("", "") != 2*parallel {
		t.Errorf("credentials fetched %d times, %d requests, want 2, %d", fetched.Load(), server.Count("", ""), 2*parallel)
	}
}

// The response to a HEAD has no body with a code.
func TestExpiredCredentialsOfAHeadAreFetchedAgain(t *testing.T) {
	server := start(t, s3test.Rule{Method: http.MethodHead, Nth: []int{1}, Fault: s3test.Failure(400, "ExpiredToken")})
	if err := server.Store(bucket, "k", nil); err != nil {
		t.Fatal(err)
	}
	cfg := load(t, server)
	asked := 0
	cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		asked++
		return aws.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}, nil
	}))
	p := quick()
	awsretry.Apply(&cfg, &p)
	if err := head(t.Context(), s3.NewFromConfig(cfg, pathStyle)); err != nil || asked != 2 {
		t.Errorf("expired once: asked for %d times, %v, want 2", asked, err)
	}
}
