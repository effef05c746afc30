//go:build integration

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A measured proxy is a process.
type measured struct {
	pid  int
	url  string
	sign func(*http.Request) // if not nil, signs a request, whose body is figureBody
}

// cpu returns the processor time that the process has used.
func (m measured) cpu(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory returns the process's resident memory in MiB.
func (m measured) memory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kib := 0
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// exchange sends one request, and returns how long it took.
func (m measured) exchange(t *testing.T, method, path string, body io.Reader) time.Duration {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, m.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if m.sign != nil {
		m.sign(req)
	}
	begin := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return time.Since(begin)
}

// startBoth starts both proxies in front of a server of 1 KiB, of 256 MiB, and of a sink. perdure proxy has these flags, too.
func startBoth(t *testing.T, flags ...string) (bare, perdure measured) {
	t.Helper()
	small, piece := bytes.Repeat([]byte("x"), 1<<10), bytes.Repeat([]byte("x"), 1<<20)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"one"`)
		if r.URL.Path != "/bikes/large" {
			_, _ = w.Write(small)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(256<<20))
		for range 256 {
			_, _ = w.Write(piece)
		}
	}))
	t.Cleanup(upstream.Close)
	c, at, _ := serveProxy(t, append([]string{"--to", upstream.URL, "--preset", "default"}, flags...)...)
	perdure = measured{pid: c.Process.Pid, url: at}
	self := command(t, nil)
	link := strings.TrimSuffix(self.Path, "perdure") + "bareproxy"
	if err := os.Symlink(self.Path, link); err != nil {
		t.Fatal(err)
	}
	log := new(text)
	b := exec.CommandContext(t.Context(), link, upstream.URL)
	b.Stderr = log
	start(t, b)
	eventually(t, "the bare proxy serves", func() bool { return servingAt.MatchString(log.String()) })
	return measured{pid: b.Process.Pid, url: "http://" + servingAt.FindStringSubmatch(log.String())[1]}, perdure
}

// figureBody is what is uploaded.
var figureBody = sync.OnceValue(func() []byte { return bytes.Repeat([]byte("x"), 64<<20) })

// A figure is what bare and perdure proxy take for the same.
type figure struct {
	what string
	of   [2]time.Duration
}

// check logs the figure, and fails the test if perdure proxy takes more than most times what the bare one does.
func (f figure) check(t *testing.T, most float64) {
	t.Helper()
	ratio := float64(f.of[1]) / float64(f.of[0])
	t.Logf("%s: bare %v, perdure %v: %.2f times", f.what, f.of[0], f.of[1], ratio)
	if ratio > most {
		t.Errorf("%s: more than %.1f times", f.what, most)
	}
}

// smallGets returns the p50 of a small GET of each, in turn.
func smallGets(t *testing.T, both [2]measured) (p50 [2]time.Duration) {
	t.Helper()
	var took [2][]time.Duration
	for range 40 {
		for i, m := range both {
			for range 100 {
				took[i] = append(took[i], m.exchange(t, http.MethodGet, "/bikes/small", nil))
			}
		}
	}
	for i := range both {
		slices.Sort(took[i])
		p50[i] = took[i][len(took[i])/2]
	}
	return p50
}

// processor returns the processor time of each that n exchanges take, in turn.
func processor(t *testing.T, both [2]measured, n int, method, path string) (used [2]time.Duration) {
	t.Helper()
	for range n {
		for i, m := range both {
			var body io.Reader
			if method == http.MethodPut {
				body = struct{ io.Reader }{bytes.NewReader(figureBody())}
			}
			before := m.cpu(t)
			m.exchange(t, method, path, body)
			used[i] += m.cpu(t) - before
		}
	}
	return used
}

// The proxy's cost beside a bare ReverseProxy, in turn. docs/proxy.md and docs/proxy-s3.md have the figures; make long runs it.
func TestProxyFigures(t *testing.T) {
	if os.Getenv("PERDURE_TEST_LONG") == "" {
		t.Skip("it takes minutes: see make long")
	}
	t.Run("http", func(t *testing.T) {
		bare, perdure := startBoth(t)
		both := [2]measured{bare, perdure}
		figure{"p50 of a 1 KiB GET", smallGets(t, both)}.check(t, 1.2)
		figure{"CPU of downloads of 256 MiB", processor(t, both, 6, http.MethodGet, "/bikes/large")}.check(t, 1.2)
		figure{"CPU of spooled uploads of 64 MiB", processor(t, both, 12, http.MethodPut, "/bikes/up")}.check(t, 3)
	})
	t.Run("s3", func(t *testing.T) {
		keys := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(keys, []byte("aws_access_key_id = CLIENT\naws_secret_access_key = a-secret-of-the-clients\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-store", "AWS_REGION": "us-east-1"} {
			t.Setenv(name, value)
		}
		bare, perdure := startBoth(t, "--s3", "--client-key-file", keys)
		perdure.sign = func(r *http.Request) { signFigure(t, r, "UNSIGNED-PAYLOAD") }
		both := [2]measured{bare, perdure}
		figure{"p50 of a presigned 1 KiB GET", smallGets(t, both)}.check(t, 2)
		figure{"CPU of presigned downloads of 256 MiB", processor(t, both, 6, http.MethodGet, "/bikes/large")}.check(t, 1.2)
		figure{"CPU of presigned, spooled uploads of 64 MiB", processor(t, both, 12, http.MethodPut, "/bikes/up")}.check(t, 3)
		digest := fmt.Sprintf("%x", sha256.Sum256(figureBody()))
		both[1].sign = func(r *http.Request) { signFigure(t, r, digest) }
		figure{"CPU of spooled uploads of 64 MiB with a signed hash", processor(t, both, 12, http.MethodPut, "/bikes/up")}.check(t, 6)
	})
}

// signFigure signs a request as the client of TestProxyFigures: it presigns the URL, or signs the header with the hash of the body.
func signFigure(t *testing.T, r *http.Request, payload string) {
	t.Helper()
	creds := aws.Credentials{AccessKeyID: "CLIENT", SecretAccessKey: "a-secret-of-the-clients"}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	length := int64(0)
	if r.Method == http.MethodPut {
		length = int64(len(figureBody()))
	}
	if payload == "UNSIGNED-PAYLOAD" {
		r.URL.RawQuery = "X-Amz-Expires=600"
		text, _, err := signer.PresignHTTP(t.Context(), creds, r, payload, "s3", "us-east-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = r.URL.Parse(text); err != nil {
			t.Fatal(err)
		}
	} else {
		r.Header.Set("X-Amz-Content-Sha256", payload)
		if err := signer.SignHTTP(t.Context(), creds, r, payload, "s3", "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	r.ContentLength = length
}

// Under 200 clients for two minutes, the proxy's memory does not grow.
func TestProxyDoesNotGrow(t *testing.T) {
	if os.Getenv("PERDURE_TEST_LONG") == "" {
		t.Skip("it takes minutes: see make long")
	}
	_, perdure := startBoth(t)
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 256
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var done atomic.Int64
	var clients sync.WaitGroup
	for range 200 {
		clients.Go(func() {
			for ctx.Err() == nil {
				perdure.exchange(t, http.MethodGet, "/bikes/small", nil)
				done.Add(1)
			}
		})
	}
	var sizes []int
	quarter := time.NewTicker(30 * time.Second)
	defer quarter.Stop()
	for range 3 {
		<-quarter.C
		sizes = append(sizes, perdure.memory(t))
	}
	clients.Wait()
	sizes = append(sizes, perdure.memory(t))
	t.Logf("%d requests; memory in MiB after each 30 s: %v", done.Load(), sizes)
	if sizes[3] > sizes[0]*5/4+8 {
		t.Error("the memory grows:", sizes)
	}
}
