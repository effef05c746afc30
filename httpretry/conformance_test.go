package httpretry_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A row of the conformance table is a script for a real server, the client's request, and what the client must send and
// return.
type row struct {
	name   string
	steps  []httptestfault.Response
	script httptestfault.Script // instead of steps

	method  string           // "" means GET
	header  http.Header      // of the request
	upload  func() io.Reader // its body
	ctx     func(context.Context) context.Context
	options httpretry.Options
	policy  func(*retry.Policy) // changes the policy of the rows

	sent   []string // what the server must have seen, as the function sent writes it; nil means anything
	status int      // of the response; 0 means no response
	body   string   // as far as the client could read it
	err    error    // of the request, or of the body; nil means none
	ended  error    // what GaveUp must be, by errors.Is
	conns  int      // connections that the server must have seen; 0 means any number
}

// errAny is any error of net/http after one attempt.
var errAny = errors.New("any error")

// A lengthKey is the context key of the ContentLength of the request.
type lengthKey struct{}

// quick is the policy of the rows: three attempts, a millisecond apart.
func quick() *retry.Policy {
	return &retry.Policy{
		Name: "test", MaxAttempts: 3, BaseDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond, Jitter: retry.NoJitter,
		Observe: func(context.Context, retry.Event) {},
	}
}

// do sends the row's request and reads the response.
func (r row) do(t *testing.T, url string, transport http.RoundTripper) (*http.Response, string, error) {
	t.Helper()
	ctx := t.Context()
	if r.ctx != nil {
		ctx = r.ctx(ctx)
	}
	var upload io.Reader
	if r.upload != nil {
		upload = r.upload()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, url, upload)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, r.header)
	if n, ok := ctx.Value(lengthKey{}).(int64); ok {
		req.ContentLength = n
	}
	before := fmt.Sprintf("%+v", req.Header)
	res, err := (&http.Client{Transport: transport}).Do(req)
	if after := fmt.Sprintf("%+v", req.Header); after != before {
		t.Errorf("the caller's request was changed: %s, was %s", after, before)
	}
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// sent returns a request in the form of the rows: method, range, attempt header, body.
func sent(r httptestfault.Request) string {
	text := r.Method
	for _, part := range []string{r.Header.Get("Range"), r.Header.Get("X-Attempt"), brief(string(r.Body))} {
		if part != "" {
			text += " " + part
		}
	}
	return text
}

// brief stands for a long body.
func brief(body string) string {
	if len(body) <= 100 {
		return body
	}
	return fmt.Sprintf("%d bytes %08x", len(body), crc32.ChecksumIEEE([]byte(body)))
}

// run plays the row, in a bubble if it has limits that a busy machine might not keep: its own, or the 50 ms in which a
// connection must be ready for the next request.
func (r row) run(t *testing.T) {
	p := quick()
	if r.policy != nil {
		r.policy(p)
	}
	ends := false
	if r.ctx != nil {
		_, ends = r.ctx(t.Context()).Deadline()
	}
	if ends || p.AttemptTimeout > 0 || r.options.StallTimeout > 0 || r.conns == 1 {
		synctest.Test(t, func(t *testing.T) { r.play(t, httptestfault.NewInMemory) })
		return
	}
	r.play(t, httptestfault.New)
}

func (r row) play(t *testing.T, serve func(httptestfault.Script) *httptestfault.Server) {
	t.Helper()
	defer checkLeaks(t)
	script := r.script
	if script == nil {
		script = httptestfault.Responses(r.steps...)
	}
	server := serve(script)
	defer server.Close()
	base := server.Transport()
	base.ExpectContinueTimeout = time.Minute
	defer base.CloseIdleConnections()
	options := r.options
	options.Policy = quick()
	options.OnResume = func(httpretry.Resumption) {}
	if r.policy != nil {
		r.policy(options.Policy)
	}

	res, body, err := r.do(t, server.URL+"/x?token=secret", httpretry.NewTransport(base, options))
	switch _, ok := errors.AsType[*httpretry.DigestError](err); {
	case ok:
		err = errDigest
	case err != nil && r.err == errAny: //nolint:errorlint // the row's own
		if _, ok := errors.AsType[*retry.Error](err); ok {
			t.Errorf("%v after several attempts", err)
		}
		err = errAny
	}
	if !errors.Is(err, r.err) || brief(body) != brief(r.body) || (res != nil) != (r.status != 0) || res != nil && res.StatusCode != r.status {
		t.Errorf("got %v, body %q, error %v; want %d, %q, %v", res, brief(body), err, r.status, brief(r.body), r.err)
	}
	if ended := httpretry.GaveUp(res); !errors.Is(ended, r.ended) {
		t.Errorf("ended with %v; want %v", ended, r.ended)
	}
	var got []string
	for _, request := range server.Requests() {
		got = append(got, sent(request))
	}
	if r.sent != nil && !slices.Equal(got, r.sent) {
		t.Errorf("the server saw %q; want %q", got, r.sent)
	}
	if opened, _ := server.Connections(); r.conns != 0 && opened != r.conns {
		t.Errorf("%d connections; want %d", opened, r.conns)
	}
}

// checkLeaks waits until a test's goroutines of a client and of this package have ended.
func checkLeaks(t *testing.T) {
	t.Helper()
	var leaked []string
	defer func() {
		for _, stack := range leaked {
			t.Log(stack)
		}
	}()
	servertest.Until(t, "a client's goroutines end", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		leaked = nil
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, "net/http.(*persistConn)") || strings.Contains(stack, "net/http.(*http2") || strings.Contains(stack, "perdure/httpretry.") {
				leaked = append(leaked, stack)
			}
		}
		return leaked == nil
	})
}

func runRows(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, r.run)
	}
}

// times is a request that the server sees n times.
func times(n int, request string) []string { return slices.Repeat([]string{request}, n) }

// status returns a response with a body.
func status(code int) httptestfault.Response {
	return httptestfault.Response{Status: code, Body: fmt.Appendf(nil, "status %d", code)}
}

var ok = httptestfault.Response{Body: []byte("fine")}
