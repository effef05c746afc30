package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/secrettest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A listener keeps all that the observers write, in each format, and each event
// as it prints.
type listener struct{ out bytes.Buffer }

func (l *listener) policy() retry.Policy {
	text, records := l.loggers()
	return retry.Policy{
		BaseDelay: time.Nanosecond, Jitter: retry.NoJitter, MaxAttempts: 2, ObserveAll: true,
		Observe: retry.Observers(retry.LogTo(text), retry.LogRecords(text), retry.LogTo(records), retry.LogRecords(records),
			func(_ context.Context, e retry.Event) {
				fmt.Fprintf(&l.out, "%v %+v %#v %q %s\n", e.Err, e, e.Err, e.Err, e.Message())
			}),
	}
}

func (l *listener) breaker() circuit.Config {
	text, records := l.loggers()
	return circuit.Config{
		FailureThreshold: 1,
		Observe: circuit.Observers(circuit.LogTo(text), circuit.LogRecords(text), circuit.LogTo(records), circuit.LogRecords(records),
			func(_ context.Context, t circuit.Transition) { fmt.Fprintln(&l.out, t.Reason, t.From, t.To) }),
	}
}

func (l *listener) loggers() (text, records *slog.Logger) {
	all := &slog.HandlerOptions{Level: slog.LevelDebug}
	return slog.New(slog.NewTextHandler(&l.out, all)), slog.New(slog.NewJSONHandler(&l.out, all))
}

// ended takes the error with which an operation ends.
func (l *listener) ended(err error) {
	fmt.Fprintf(&l.out, "%v %+v %s %q\n", err, err, err, err)
}

// hostile starts a server that sends back all that it was sent, in the header and in the
// body, and has secrets in the address that it redirects to.
func hostile(t *testing.T, status int) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		echo := fmt.Sprintf("%s %v", r.URL, r.Header)
		w.Header().Set("X-Echo", strings.ReplaceAll(echo, "\n", " "))
		w.Header().Set("Location", "http://user:"+secrettest.Password+"@127.0.0.1:1/?X-Amz-Signature="+secrettest.Signature)
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>Hostile</Code><Message>%s</Message></Error>", echo)
	}))
	t.Cleanup(s.Close)
	return s
}

// secretPaths are the ways that a secret can take through the library.
func secretPaths(t *testing.T) map[string]func(*listener) {
	t.Helper()
	address := secrettest.SignedURL("127.0.0.1:1")
	paths := map[string]func(*listener){
		"retry": func(l *listener) {
			p := l.policy()
			p.Classify = retry.Always
			for _, text := range secrettest.Texts() {
				p.Breaker = circuit.New("key "+address, l.breaker())
				l.ended(retry.Do(t.Context(), &p, func(context.Context) error { return errors.New(text) }))
				l.ended(retry.Do(t.Context(), &p, func(context.Context) error { return nil })) // refused
				fmt.Fprintln(&l.out, p.Breaker)
				p.Breaker.Reset()
				ctx, cancel := context.WithCancelCause(t.Context())
				p.Breaker = nil
				l.ended(errors.Unwrap(fmt.Errorf("%w", retry.Do(ctx, &p, func(context.Context) error {
					cancel(errors.New("cancelled: " + text))
					return errors.New(text)
				}))))
			}
		},
	}
	for _, status := range []int{200, 302, 400, 401, 403, 404, 429, 500, 503} {
		server := hostile(t, status)
		paths[fmt.Sprintf("httpretry, %d", status)] = func(l *listener) { overHTTP(t, l, server.URL) }
		paths[fmt.Sprintf("awsretry, %d", status)] = func(l *listener) { overS3(t, l, server.URL) }
	}
	piecesWithSecrets(t, paths)
	paths["httpretry, nothing listens"] = func(l *listener) { overHTTP(t, l, "http://127.0.0.1:1") }
	paths["awsretry, nothing listens"] = func(l *listener) { overS3(t, l, "http://127.0.0.1:1") }
	return paths
}

func overHTTP(t *testing.T, l *listener, server string) {
	t.Helper()
	p, c := l.policy(), l.breaker()
	client := &http.Client{Transport: httpretry.NewTransport(nil, httpretry.Options{Policy: &p, Breakers: &c}), CheckRedirect: httpretry.CheckRedirect}
	for _, authorization := range []string{"", "Bearer " + secrettest.Token} {
		address := strings.Replace(server, "://", "://user:"+secrettest.Password+"@", 1) + "/x?X-Amz-Signature=" + secrettest.Signature
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Amz-Server-Side-Encryption-Customer-Key", secrettest.CustomerKeyField())
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			continue
		}
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // the http.Client puts the URL before it, which is not ours to change
		}
		l.ended(err)
	}
}

func overS3(t *testing.T, l *listener, server string) {
	t.Helper()
	p, c := l.policy(), l.breaker()
	cfg := aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server),
		Credentials: credentials.NewStaticCredentialsProvider(secrettest.AccessKey, secrettest.SecretKey, secrettest.Signature),
	}
	applied := cfg
	awsretry.Options{Policy: &p, Breakers: &c}.Apply(&applied)
	_, err := s3.NewFromConfig(applied, func(o *s3.Options) { o.UsePathStyle = true }).
		GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bikes"), Key: aws.String("x")})
	l.ended(err)
	store, err := objects.New(cfg, objects.Options{Policy: &p, Breakers: &c})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Put(t.Context(), "bikes", "x", strings.NewReader("bytes"), objects.PutOptions{})
	l.ended(err)
	_, err = store.WithCustomerKey([]byte(secrettest.CustomerKey))
	l.ended(err) // which needs TLS
}

// No secret of any kind is in what the library logs, in what its events print or
// in its errors, whatever a server sends back. What the command writes is the
// matter of TestSecretsStaySecret.
func TestSecretsStaySecretInTheLibrary(t *testing.T) {
	for name, run := range secretPaths(t) {
		t.Run(name, func(t *testing.T) {
			var l listener
			old := slog.Default()
			text, _ := l.loggers()
			slog.SetDefault(text)
			defer slog.SetDefault(old)
			run(&l)
			if l.out.Len() == 0 {
				t.Fatal("nothing was written")
			}
			for _, found := range secrettest.Find(l.out.String()) {
				t.Errorf("it shows %s", found)
			}
		})
	}
}
