package httpretry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// TestEveryStatus shows which of the statuses from 200 on are retried: 408, 425, 429 and every 5xx but 501, 505, 506,
// 510 and 511. Every other one is one request, and comes back as from a plain client.
func TestEveryStatus(t *testing.T) {
	retried := map[int]bool{408: true, 425: true, 429: true}
	never := map[int]bool{501: true, 505: true, 506: true, 510: true, 511: true}
	for code := 200; code < 600; code++ {
		if code == 301 || code == 302 || code == 303 || code == 307 || code == 308 {
			continue // are followed: see the redirects
		}
		if http.StatusText(code) == "" && code%10 != 0 && code != 529 {
			continue
		}
		r := row{name: fmt.Sprint(code), steps: []httptestfault.Response{status(code)}, sent: times(1, "GET"), status: code, body: fmt.Sprint("status ", code), conns: 1}
		if code == 204 || code == 304 {
			r.body = ""
		}
		if retried[code] || code >= 500 && !never[code] {
			r.sent, r.ended = times(3, "GET"), retry.ErrExhausted
		}
		t.Run(r.name, r.run)
	}
}

// TestPageNamesTheRetriedStatuses compares the row of docs/http.md with what is retried.
func TestPageNamesTheRetriedStatuses(t *testing.T) {
	var retried, not []string
	for code := 400; code < 600; code++ {
		switch c := retry.StatusClass(code); {
		case code < 500 && c != retry.ClassPermanent:
			retried = append(retried, fmt.Sprint(code))
		case code >= 500 && c == retry.ClassPermanent:
			not = append(not, fmt.Sprint(code))
		}
	}
	last := len(not) - 1
	want := fmt.Sprintf("| statuses | %s, and every 5xx but %s and %s ", strings.Join(retried, ", "), strings.Join(not[:last], ", "), not[last])
	if page, err := os.ReadFile("../docs/http.md"); err != nil || !strings.Contains(string(page), want) {
		t.Errorf("docs/http.md lacks %q; %v", want, err)
	}
}

func TestStatusesThatPass(t *testing.T) {
	early := func(seconds string) http.Header { return http.Header{"Retry-After": {seconds}} }
	large := bytes.Repeat([]byte("x"), 100<<10)
	runRows(t, []row{
		{name: "503, 200", steps: []httptestfault.Response{status(503), ok}, sent: times(2, "GET"), status: 200, body: "fine", conns: 1},
		{name: "429, 503, 200", steps: []httptestfault.Response{status(429), status(503), ok}, sent: times(3, "GET"), status: 200, body: "fine", conns: 1},
		{name: "503, 404", steps: []httptestfault.Response{status(503), status(404)}, sent: times(2, "GET"), status: 404, body: "status 404", ended: retry.ErrPermanent},
		{name: "HEAD", method: "HEAD", steps: []httptestfault.Response{status(503), ok}, sent: times(2, "HEAD"), status: 200, conns: 1},
		{name: "DELETE", method: "DELETE", steps: []httptestfault.Response{status(500), {Status: 204}}, sent: times(2, "DELETE"), status: 204},
		{name: "OPTIONS", method: "OPTIONS", steps: []httptestfault.Response{status(502), {Status: 204}}, sent: times(2, "OPTIONS"), status: 204},
		{name: "QUERY", method: "QUERY", steps: []httptestfault.Response{status(504), ok}, sent: times(2, "QUERY"), status: 200, body: "fine"},
		{name: "chunked failure", steps: []httptestfault.Response{{Status: 503, Framing: httptestfault.Chunked, Body: []byte("no")}, ok}, sent: times(2, "GET"), status: 200, body: "fine", conns: 1},
		{name: "failure without a body", steps: []httptestfault.Response{{Status: 503}, ok}, sent: times(2, "GET"), status: 200, body: "fine", conns: 1},
		{name: "failure too large to drain", steps: []httptestfault.Response{{Status: 503, Body: large}, ok}, sent: times(2, "GET"), status: 200, body: "fine", conns: 2},
		{name: "failure that stalls", steps: []httptestfault.Response{{Status: 503, Body: large, Fault: httptestfault.StallBody(1)}, ok}, sent: times(2, "GET"), status: 200, body: "fine", conns: 2},
		{name: "failure that is cut", steps: []httptestfault.Response{status(503).With(httptestfault.ResetBody(3)), ok}, sent: times(2, "GET"), status: 200, body: "fine", conns: 2},
		{name: "failure on a last connection", steps: []httptestfault.Response{{Status: 503, Last: true}, ok}, sent: times(2, "GET"), status: 200, body: "fine", conns: 2},
		{name: "large failure is returned whole", steps: []httptestfault.Response{{Status: 503, Body: large}}, sent: times(3, "GET"), status: 503, body: string(large), ended: retry.ErrExhausted},

		{name: "Retry-After: 0", steps: []httptestfault.Response{{Status: 503, Header: early("0")}, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "Retry-After: 0.005", steps: []httptestfault.Response{{Status: 429, Header: early("0.005")}, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "Retry-After in the past", steps: []httptestfault.Response{{Status: 429, Header: early("Thu, 01 Jan 1970 00:00:00 GMT")}, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "Retry-After: -1", steps: []httptestfault.Response{{Status: 429, Header: early("-1")}, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "Retry-After: garbage", steps: []httptestfault.Response{{Status: 429, Header: early("in a while")}, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "Retry-After too long", steps: []httptestfault.Response{{Status: 503, Header: early("61"), Body: []byte("later")}, ok}, sent: times(1, "GET"), status: 503, body: "later", ended: retry.ErrRetryLater},
		{name: "Retry-After huge", steps: []httptestfault.Response{{Status: 429, Header: early("99999999999999999999"), Body: []byte("later")}, ok}, sent: times(1, "GET"), status: 429, body: "later", ended: retry.ErrRetryLater},
		{name: "Retry-After at the end of time", steps: []httptestfault.Response{{Status: 429, Header: early("Fri, 31 Dec 9999 23:59:59 GMT"), Body: []byte("later")}, ok}, sent: times(1, "GET"), status: 429, body: "later", ended: retry.ErrRetryLater},
		{name: "Retry-After: 0.001, 70", steps: []httptestfault.Response{{Status: 429, Header: early("0.001, 70"), Body: []byte("later")}, ok}, sent: times(1, "GET"), status: 429, body: "later", ended: retry.ErrRetryLater},
		{name: "Retry-After twice", steps: []httptestfault.Response{{Status: 429, Header: http.Header{"Retry-After": {"0.001", "70"}}, Body: []byte("later")}, ok}, sent: times(1, "GET"), status: 429, body: "later", ended: retry.ErrRetryLater},
		{name: "Retry-After not respected", steps: []httptestfault.Response{{Status: 429, Header: early("1000")}, ok}, policy: func(p *retry.Policy) { p.IgnoreRetryAfter = true }, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "Retry-After on a 404", steps: []httptestfault.Response{{Status: 404, Header: early("0.001"), Body: []byte("no")}, ok}, sent: times(1, "GET"), status: 404, body: "no"},
		{
			name: "Retry-After past the deadline", steps: []httptestfault.Response{{Status: 503, Header: early("30"), Body: []byte("later")}, ok},
			ctx:  func(ctx context.Context) context.Context { return within(ctx, 20*time.Second) },
			sent: times(1, "GET"), status: 503, body: "later", ended: retry.ErrRetryLater,
		},

		{name: "retry_on 404", steps: []httptestfault.Response{status(404), ok}, policy: func(p *retry.Policy) { p.RetryOn = []string{"404"} }, sent: times(2, "GET"), status: 200, body: "fine", conns: 1},
		{name: "ignore_on 503", steps: []httptestfault.Response{status(503), ok}, policy: func(p *retry.Policy) { p.IgnoreOn = []string{"503"} }, sent: times(1, "GET"), status: 503, body: "status 503"},
		{name: "own classifier", steps: []httptestfault.Response{status(418), ok}, policy: func(p *retry.Policy) { p.Classify = retry.Always }, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "one attempt", steps: []httptestfault.Response{status(503)}, policy: func(p *retry.Policy) { p.MaxAttempts = 1 }, sent: times(1, "GET"), status: 503, body: "status 503", ended: retry.ErrExhausted},
		{name: "exhausted is a StatusError", steps: []httptestfault.Response{status(503)}, sent: times(3, "GET"), status: 503, body: "status 503", ended: retry.ErrExhausted},
	})
}

// within returns ctx with a deadline; its timer is not stopped.
func within(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func TestMethodsThatAreNotIdempotent(t *testing.T) {
	upload := func() io.Reader { return strings.NewReader("data") }
	key := http.Header{"Idempotency-Key": {"7"}}
	reset := httptestfault.Response{Fault: httptestfault.Reset()}
	runRows(t, []row{
		{name: "POST 503", method: "POST", upload: upload, steps: []httptestfault.Response{status(503)}, sent: times(1, "POST data"), status: 503, body: "status 503", ended: httpretry.ErrNotIdempotent},
		{name: "POST 429", method: "POST", upload: upload, steps: []httptestfault.Response{status(429)}, sent: times(1, "POST data"), status: 429, body: "status 429", ended: httpretry.ErrNotIdempotent},
		{name: "POST 404", method: "POST", upload: upload, steps: []httptestfault.Response{status(404)}, sent: times(1, "POST data"), status: 404, body: "status 404"},
		{name: "PATCH 503", method: "PATCH", upload: upload, steps: []httptestfault.Response{status(503)}, sent: times(1, "PATCH data"), status: 503, body: "status 503", ended: httpretry.ErrNotIdempotent},
		{name: "unknown method", method: "FROB", steps: []httptestfault.Response{status(503)}, sent: times(1, "FROB"), status: 503, body: "status 503", ended: httpretry.ErrNotIdempotent},
		{name: "POST reset", method: "POST", upload: upload, steps: []httptestfault.Response{reset}, sent: times(1, "POST data"), err: httpretry.ErrNotIdempotent},
		{name: "POST reset, the error itself", method: "POST", upload: upload, steps: []httptestfault.Response{reset}, sent: times(1, "POST data"), err: syscall.ECONNRESET},
		{name: "POST without a body, reset", method: "POST", steps: []httptestfault.Response{reset}, sent: times(1, "POST"), err: httpretry.ErrNotIdempotent},
		{name: "POST retry_on 503", method: "POST", policy: func(p *retry.Policy) { p.RetryOn = []string{"503"} }, steps: []httptestfault.Response{status(503)}, sent: times(1, "POST"), status: 503, body: "status 503", ended: httpretry.ErrNotIdempotent},
		{name: "POST with a key", method: "POST", header: key, upload: upload, steps: []httptestfault.Response{status(503), ok}, sent: times(2, "POST data"), status: 200, body: "fine", conns: 1},
		{name: "POST with the older key", method: "POST", header: http.Header{"X-Idempotency-Key": {"7"}}, upload: upload, steps: []httptestfault.Response{status(503), ok}, sent: times(2, "POST data"), status: 200, body: "fine"},
		{name: "POST with an empty key", method: "POST", header: http.Header{"Idempotency-Key": {""}}, steps: []httptestfault.Response{status(503)}, sent: times(1, "POST"), status: 503, body: "status 503", ended: httpretry.ErrNotIdempotent},
		{name: "POST with a key, reset", method: "POST", header: key, upload: upload, steps: []httptestfault.Response{reset, reset, ok}, sent: times(3, "POST data"), status: 200, body: "fine"},
		{name: "POST with a promise", method: "POST", ctx: httpretry.Idempotent, upload: upload, steps: []httptestfault.Response{status(500), reset, ok}, sent: times(3, "POST data"), status: 200, body: "fine"},
	})
}

func TestUploads(t *testing.T) {
	var large bytes.Buffer
	for n := range 20000 {
		fmt.Fprintln(&large, "line", n)
	}
	whole := large.String()
	opaque := func() io.Reader { return io.MultiReader(strings.NewReader(whole)) } // neither GetBody nor Seeker
	seekable := func() io.Reader {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(file, "skipped "+whole); err != nil {
			t.Fatal(err)
		}
		if _, err := file.Seek(int64(len("skipped ")), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		return file
	}
	unseekable := func() io.Reader { // has a Seek, which fails
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(write, "piped"); err != nil {
			t.Fatal(err)
		}
		if err := write.Close(); err != nil {
			t.Fatal(err)
		}
		return read
	}
	length := func(n int64) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return context.WithValue(ctx, lengthKey{}, n) }
	}
	rewound := func() io.Reader { return strings.NewReader(whole) }
	unread := status(503)
	unread.Unread = true
	early := http.Header{"Expect": {"100-continue"}}
	reset := httptestfault.Response{Fault: httptestfault.Reset()}
	broken := errors.New("the disk is on fire")
	runRows(t, []row{
		{name: "GetBody", method: "PUT", upload: rewound, steps: []httptestfault.Response{status(503), reset, ok}, sent: times(3, "PUT "+brief(whole)), status: 200, body: "fine"},
		{name: "Seeker, from where it stood", method: "PUT", upload: seekable, steps: []httptestfault.Response{status(503), reset, ok}, sent: times(3, "PUT "+brief(whole)), status: 200, body: "fine"},
		{name: "Seeker that can't", method: "PUT", upload: unseekable, steps: []httptestfault.Response{status(503), reset, ok}, sent: times(3, "PUT piped"), status: 200, body: "fine"},
		{name: "shorter than it says", method: "PUT", ctx: length(30), upload: func() io.Reader { return io.MultiReader(strings.NewReader("data")) }, steps: []httptestfault.Response{ok}, err: errAny},
		{name: "longer than it says", method: "PUT", ctx: length(3), upload: func() io.Reader { return io.MultiReader(strings.NewReader("data")) }, steps: []httptestfault.Response{{Delay: 100 * time.Millisecond}}, err: errAny},
		{name: "buffered", method: "PUT", upload: opaque, steps: []httptestfault.Response{status(503), reset, ok}, sent: times(3, "PUT "+brief(whole)), status: 200, body: "fine"},
		{name: "spooled to a file", method: "PUT", upload: opaque, options: httpretry.Options{BufferLimit: 1000}, steps: []httptestfault.Response{status(503), reset, ok}, sent: times(3, "PUT "+brief(whole)), status: 200, body: "fine"},
		{name: "spooled to a file only", method: "PUT", upload: opaque, options: httpretry.Options{BufferLimit: -1}, steps: []httptestfault.Response{status(503), reset, ok}, sent: times(3, "PUT "+brief(whole)), status: 200, body: "fine"},
		{name: "beyond the buffer", method: "PUT", upload: opaque, options: httpretry.Options{BufferLimit: 1000, SpoolLimit: 2000}, steps: []httptestfault.Response{status(503)}, sent: times(1, "PUT "+brief(whole)), status: 503, body: "status 503", ended: httpretry.ErrBody},
		{name: "beyond the buffer, the error itself", method: "PUT", upload: opaque, options: httpretry.Options{BufferLimit: 1000, SpoolLimit: 2000}, steps: []httptestfault.Response{reset}, sent: times(1, "PUT "+brief(whole)), err: syscall.ECONNRESET},
		{name: "no buffer", method: "PUT", upload: opaque, options: httpretry.Options{BufferLimit: -1, SpoolLimit: -1}, steps: []httptestfault.Response{reset}, sent: times(1, "PUT "+brief(whole)), err: httpretry.ErrBody},
		{name: "no buffer, no failure", method: "PUT", upload: opaque, options: httpretry.Options{BufferLimit: -1, SpoolLimit: -1}, steps: []httptestfault.Response{ok}, sent: times(1, "PUT "+brief(whole)), status: 200, body: "fine"},
		{name: "rejected before 100 Continue", method: "PUT", header: early, upload: opaque, options: httpretry.Options{BufferLimit: -1, SpoolLimit: -1}, steps: []httptestfault.Response{unread, ok}, sent: []string{"PUT", "PUT " + brief(whole)}, status: 200, body: "fine"},
		{name: "POST rejected before 100 Continue", method: "POST", header: early, upload: rewound, steps: []httptestfault.Response{unread, ok}, sent: []string{"POST"}, status: 503, body: "status 503", ended: httpretry.ErrNotIdempotent},
		{name: "417", method: "PUT", header: early, upload: rewound, steps: []httptestfault.Response{{Status: 417, Unread: true}}, sent: []string{"PUT"}, status: 417},
		{name: "empty body", method: "PUT", upload: func() io.Reader { return http.NoBody }, steps: []httptestfault.Response{status(503), ok}, sent: times(2, "PUT"), status: 200, body: "fine", conns: 1},
		{name: "a reader that fails", method: "PUT", upload: func() io.Reader { return io.MultiReader(strings.NewReader("ab"), failing{broken}) }, steps: []httptestfault.Response{ok}, err: broken},
	})
}

// A failing reader fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestBrokenConnections(t *testing.T) {
	reset := httptestfault.Response{Fault: httptestfault.Reset()}
	closed := httptestfault.Response{Fault: httptestfault.Hangup()}
	raw := func(text string) httptestfault.Response { return httptestfault.Response{Raw: []byte(text)} }
	redirect := func(code int, to string) httptestfault.Response {
		return httptestfault.Response{Status: code, Header: http.Header{"Location": {to}}}
	}
	runRows(t, []row{
		{name: "reset before the head", steps: []httptestfault.Response{reset, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "reset for ever", steps: []httptestfault.Response{reset}, sent: times(3, "GET"), err: retry.ErrExhausted},
		{name: "reset for ever, the error itself", steps: []httptestfault.Response{reset}, sent: times(3, "GET"), err: syscall.ECONNRESET},
		{name: "closed before the head", steps: []httptestfault.Response{closed, ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "closed for ever", steps: []httptestfault.Response{closed}, sent: times(3, "GET"), err: io.EOF},
		{name: "half a head", steps: []httptestfault.Response{raw("HTTP/1.1 200 OK\r\nContent-Le"), ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "no HTTP", steps: []httptestfault.Response{raw("220 mail.example.org ESMTP\r\n"), ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "no number", steps: []httptestfault.Response{raw("HTTP/1.1 OK\r\n\r\n"), ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "two lengths", steps: []httptestfault.Response{raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), ok}, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "PUT on a connection that is closed", method: "PUT", steps: []httptestfault.Response{closed, ok}, sent: times(2, "PUT"), status: 200, body: "fine"},
		{name: "too slow a head", steps: []httptestfault.Response{{Delay: time.Minute}, ok}, policy: func(p *retry.Policy) { p.AttemptTimeout = 50 * time.Millisecond }, sent: times(2, "GET"), status: 200, body: "fine"},
		{name: "too slow a head for ever", steps: []httptestfault.Response{{Delay: time.Minute}}, policy: func(p *retry.Policy) { p.AttemptTimeout = 20 * time.Millisecond }, sent: times(3, "GET"), err: context.DeadlineExceeded},
		{name: "a body slower than an attempt may be", steps: []httptestfault.Response{{Body: []byte("slow"), Slice: 1, Gap: 30 * time.Millisecond}}, policy: func(p *retry.Policy) { p.AttemptTimeout = 50 * time.Millisecond }, sent: times(1, "GET"), status: 200, body: "slow"},
		{name: "a PUT that is too slow", method: "PUT", upload: func() io.Reader { return strings.NewReader("data") }, steps: []httptestfault.Response{{Delay: time.Minute}, ok}, policy: func(p *retry.Policy) { p.AttemptTimeout = 50 * time.Millisecond }, sent: times(2, "PUT data"), status: 200, body: "fine"},

		{name: "redirect", steps: []httptestfault.Response{redirect(302, "/y"), status(503), ok}, sent: times(3, "GET"), status: 200, body: "fine", conns: 1},
		{name: "redirect after a failure", steps: []httptestfault.Response{status(503), redirect(308, "/y"), ok}, sent: times(3, "GET"), status: 200, body: "fine", conns: 1},
		{name: "PUT redirected", method: "PUT", upload: func() io.Reader { return strings.NewReader("data") }, steps: []httptestfault.Response{redirect(307, "/y"), status(503), ok}, sent: times(3, "PUT data"), status: 200, body: "fine"},
		{name: "POST turned into GET", method: "POST", upload: func() io.Reader { return strings.NewReader("data") }, steps: []httptestfault.Response{redirect(303, "/y"), status(503), ok}, sent: []string{"POST data", "GET", "GET"}, status: 200, body: "fine"},
	})
}
