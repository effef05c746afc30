package awsretry_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// newProxy starts a proxy that refuses to connect with each of those statuses once, and then connects.
func newProxy(t *testing.T, refusals ...int) (*url.URL, *atomic.Int32) {
	t.Helper()
	requests := new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := int(requests.Add(1)); n <= len(refusals) {
			w.WriteHeader(refusals[n-1])
			return
		}
		server, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, client)
			server.Close()
		}()
		_, _ = io.Copy(client, server)
		client.Close()
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u, requests
}

// The refusal of a proxy used to be retried, and to open the breaker of the service.
func TestProxyThatRefusesToConnect(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"1"`) }))
	defer origin.Close()
	roots := x509.NewCertPool()
	roots.AddCert(origin.Certificate())
	clients := map[string]func(func(*http.Transport)) aws.HTTPClient{
		"the SDK's": func(tune func(*http.Transport)) aws.HTTPClient {
			return awshttp.NewBuildableClient().WithTransportOptions(tune)
		},
		"an http.Client": func(tune func(*http.Transport)) aws.HTTPClient {
			base := origin.Client().Transport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
			tune(base)
			t.Cleanup(base.CloseIdleConnections)
			return &http.Client{Transport: base}
		},
	}
	for _, tt := range []struct {
		refusals []int
		requests int32
		status   int // of the ProxyError; 0 means that the operation succeeds
		failures int // that the breaker knows of in the end, of one before
	}{
		{nil, 1, 0, 0},
		{[]int{407, 407, 407}, 1, 407, 1},
		{[]int{403, 403, 403}, 1, 403, 1},
		{[]int{501, 501, 501}, 1, 501, 1},
		{[]int{502, 502, 502}, 3, 502, 4},
		{[]int{502, 503}, 3, 0, 0},
	} {
		for name, client := range clients {
			for _, through := range []string{"Apply", "objects"} {
				t.Run(fmt.Sprint(tt.refusals, " ", name, " ", through), func(t *testing.T) {
					address, requests := newProxy(t, tt.refusals...)
					p := quick()
					p.MaxAttempts = 3
					p.Breaker = circuit.New("s3", circuit.Config{FailureThreshold: 10, Observe: func(context.Context, circuit.Transition) {}})
					p.Breaker.RecordFailure()
					cfg := aws.Config{
						Region: "eu-central-1", BaseEndpoint: &origin.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "s", ""),
						HTTPClient: client(func(base *http.Transport) {
							base.Proxy = http.ProxyURL(address)
							base.TLSClientConfig.RootCAs = roots
						}),
					}
					err := headThrough(t.Context(), through, cfg, &p)
					e, ok := errors.AsType[*httpretry.ProxyError](err)
					if ok != (tt.status != 0) || ok && e.Status != tt.status || !ok && err != nil || requests.Load() != tt.requests {
						t.Errorf("%v after %d requests to the proxy; want %d after %d", err, requests.Load(), tt.status, tt.requests)
					}
					if n := p.Breaker.Metrics().Failures; n != tt.failures {
						t.Errorf("the breaker knows of %d failures; want %d", n, tt.failures)
					}
				})
			}
		}
	}
}

// headThrough sends a HEAD by a client of cfg or by a Store.
func headThrough(ctx context.Context, through string, cfg aws.Config, p *retry.Policy) error {
	if through == "objects" {
		store, err := objects.New(cfg, objects.Options{Policy: p})
		if err != nil {
			return err
		}
		_, err = store.Stat(ctx, bucket, "k")
		return err
	}
	awsretry.Apply(&cfg, p)
	return head(ctx, s3.NewFromConfig(cfg, pathStyle))
}

// A configuration without an HTTP client uses the proxy of the environment.
func TestProxyOfTheEnvironment(t *testing.T) {
	const child = "PERDURE_TEST_PROXY_CHILD"
	if os.Getenv(child) != "" { // net/http reads the environment once in a process
		for _, client := range []aws.HTTPClient{nil, new(http.Client)} {
			p := quick()
			cfg := aws.Config{Region: "eu-central-1", BaseEndpoint: aws.String("https://example.invalid"), Credentials: aws.AnonymousCredentials{}, HTTPClient: client}
			err := headThrough(t.Context(), "Apply", cfg, &p)
			if e, ok := errors.AsType[*httpretry.ProxyError](err); !ok || e.Status != 407 {
				t.Errorf("%T: %v; want a ProxyError", client, err)
			}
		}
		return
	}
	address, requests := newProxy(t, 407, 407, 407, 407)
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyOfTheEnvironment$") //nolint:gosec // this test
	run.Env = append(os.Environ(), child+"=1", "NO_PROXY=", "no_proxy=", "https_proxy=", "HTTPS_PROXY="+address.String())
	if out, err := run.CombinedOutput(); err != nil || requests.Load() != 2 {
		t.Errorf("%d requests, want one of each client: %v\n%s", requests.Load(), err, out)
	}
}
