//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// startS3 starts perdure proxy --s3 in an environment. It returns a client with one attempt that uses the key which the proxy
// prints, the key's secret, and a function that ends the proxy and returns all of its output.
func startS3(t *testing.T, store *s3test.Server, environ ...string) (c *s3.Client, secret string, end func() string) {
	t.Helper()
	p := command(t, environ, "proxy", "--s3", "--to", store.URL, "--listen", "127.0.0.1:0", "--base-delay", "1ms", "--head-timeout", "10s")
	log := new(text)
	p.Stderr = log
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, p)
	lines, printed, values := bufio.NewReader(out), "", make(map[string]string)
	for len(values) < 3 {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err, log)
		}
		printed += line
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		values[name] = value
	}
	end = func() string {
		_ = p.Process.Signal(syscall.SIGTERM)
		rest, _ := io.ReadAll(lines)
		_ = p.Wait()
		return printed + string(rest) + log.String()
	}
	t.Cleanup(func() { end() })
	secret = values["AWS_SECRET_ACCESS_KEY"]
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(values["AWS_ENDPOINT_URL"]), Region: "us-east-1", UsePathStyle: true, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(values["AWS_ACCESS_KEY_ID"], secret, ""),
	}), secret, end
}

// The key of the clients is printed once, and is in no log, page or response.
func TestTheClientsKeyIsPrintedOnce(t *testing.T) {
	store := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}, Script: s3test.Rules(s3test.Rule{Nth: []int{1}, Fault: s3test.SlowDown()})})
	c, secret, end := startS3(t, store, "AWS_ACCESS_KEY_ID="+store.AccessKey, "AWS_SECRET_ACCESS_KEY="+store.SecretKey)
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bikes"), Key: aws.String("k"), Body: strings.NewReader("x")}); err != nil {
		t.Error(err)
	}
	_, refused := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bikes"), Key: aws.String("absent")})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, *c.Options().BaseEndpoint+"/.perdure/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(res.Body)
	res.Body.Close()
	all := end() + string(page) + fmt.Sprint(refused, res.Header)
	if n := strings.Count(all, secret); n != 1 || err != nil || refused == nil {
		t.Errorf("the key is in the output %d times, want 1: %v, %v\n%s", n, err, refused, all)
	}
	if strings.Contains(all, store.SecretKey) {
		t.Error("the output has the store's key")
	}
}

// Credentials that the store calls expired are fetched again, and the attempt is signed with the new ones. If they cannot be fetched,
// the client gets an error of S3.
func TestCredentialsExpireInTheMiddle(t *testing.T) {
	for name, tt := range map[string]struct {
		second string // what the credential_process does when it is run again
		want   string // in the error; "" means success
	}{
		"renewed":     {"", ""},
		"not renewed": {"echo no-more-sessions >&2; exit 1", "no AWS credentials"},
		"hangs":       {"exec >/dev/null 2>&1; sleep 12", "RequestTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}, Script: s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1}, Fault: s3test.Failure(400, "ExpiredToken")})})
			dir := t.TempDir()
			script, config := filepath.Join(dir, "script.sh"), filepath.Join(dir, "config")
			run := fmt.Sprintf("if test -e %s/run; then :; %s\nfi\ntouch %[1]s/run\necho '{\"Version\": 1, \"AccessKeyId\": %[3]q, \"SecretAccessKey\": %[4]q, \"Expiration\": \"2099-01-01T00:00:00Z\"}'\n",
				dir, tt.second, store.AccessKey, store.SecretKey)
			for path, content := range map[string]string{script: run, config: "[default]\ncredential_process = sh " + script + "\n"} {
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, _, end := startS3(t, store, "AWS_CONFIG_FILE="+config, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")
			_, err := c.PutObject(context.WithoutCancel(t.Context()), &s3.PutObjectInput{Bucket: aws.String("bikes"), Key: aws.String("k"), Body: strings.NewReader("x")})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q\n%s", err, tt.want, end())
			}
		})
	}
}
