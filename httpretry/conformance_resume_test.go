package httpretry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

const text = "0123456789abcdefghij"

// versioned is the resource of these rows.
func versioned() httptestfault.Resource {
	return httptestfault.Resource{Body: []byte(text), ETag: `"v1"`}
}

// A change alters the correct response to one request.
type change func(httptestfault.Response) httptestfault.Response

// altered serves a resource; the first responses are altered in turn, later responses are correct.
func altered(e httptestfault.Resource, changes ...change) httptestfault.Script {
	return func(n int, r *http.Request) httptestfault.Response {
		step := e.Respond(r)
		if n <= len(changes) && changes[n-1] != nil {
			step = changes[n-1](step)
		}
		return step
	}
}

func with(f httptestfault.Fault) change {
	return func(s httptestfault.Response) httptestfault.Response {
		s.Late = time.Millisecond // so that a reset does not overtake the head
		return s.With(f)
	}
}

func chunked(then change) change {
	return func(s httptestfault.Response) httptestfault.Response {
		s.Header.Del("Content-Length")
		s.Framing = httptestfault.Chunked
		return then(s)
	}
}

// header sets a header of the response; "" removes it.
func header(name, value string) change {
	return func(s httptestfault.Response) httptestfault.Response {
		s.Header = s.Header.Clone()
		s.Header.Del(name)
		if value != "" {
			s.Header.Set(name, value)
		}
		return s
	}
}

func both(a, b change) change {
	return func(s httptestfault.Response) httptestfault.Response { return b(a(s)) }
}

func instead(s httptestfault.Response) change {
	return func(httptestfault.Response) httptestfault.Response { return s }
}

// partial is a 206 with these bytes of the text.
func partial(contentRange, body string) change {
	return instead(httptestfault.Response{Status: 206, Header: http.Header{"Content-Range": {contentRange}, "Etag": {`"v1"`}}, Body: []byte(body)})
}

// anyway serves the whole as a 200 although a part was asked for.
func anyway(s httptestfault.Response) httptestfault.Response {
	return httptestfault.Response{Header: http.Header{"Etag": s.Header["Etag"]}, Body: []byte(text)}
}

func TestBodiesThatBreak(t *testing.T) {
	v1 := versioned()
	dated := httptestfault.Resource{Body: v1.Body, LastModified: time.Now().Add(-time.Hour)}
	fresh := httptestfault.Resource{Body: v1.Body, LastModified: time.Now().Add(time.Minute)}
	weak := httptestfault.Resource{Body: v1.Body, ETag: `W/"v1"`}
	bare := httptestfault.Resource{Body: v1.Body}
	impatient := httpretry.Options{StallTimeout: 40 * time.Millisecond}
	from := func(ranges ...string) []string {
		all := []string{"GET"}
		for _, r := range ranges {
			all = append(all, "GET bytes="+r)
		}
		return all
	}
	runRows(t, []row{
		{name: "closed", script: altered(v1, with(httptestfault.CutBody(7))), sent: from("7-"), status: 200, body: text},
		{name: "closed after one byte", script: altered(v1, with(httptestfault.CutBody(1))), sent: from("1-"), status: 200, body: text},
		{name: "closed before the last byte", script: altered(v1, with(httptestfault.CutBody(19))), sent: from("19-"), status: 200, body: text},
		{name: "closed three times", script: altered(v1, with(httptestfault.CutBody(5)), with(httptestfault.CutBody(5)), with(httptestfault.CutBody(5))), sent: from("5-", "10-", "15-"), status: 200, body: text},
		{name: "closed after every byte", script: func(_ int, r *http.Request) httptestfault.Response {
			return v1.Respond(r).With(httptestfault.CutBody(1))
		}, status: 200, body: text},
		{name: "reset before the first byte", script: altered(v1, with(httptestfault.ResetBody(0))), sent: times(2, "GET"), status: 200, body: text},
		{name: "stalls", options: impatient, script: altered(v1, with(httptestfault.StallBody(7))), sent: from("7-"), status: 200, body: text},
		{name: "stalls before the first byte", options: impatient, script: altered(v1, with(httptestfault.StallBody(0))), sent: times(2, "GET"), status: 200, body: text},
		{name: "stalls again", options: impatient, script: altered(v1, with(httptestfault.StallBody(7)), with(httptestfault.StallBody(3))), sent: from("7-", "10-"), status: 200, body: text},
		{name: "stalls for ever", options: impatient, script: altered(v1, with(httptestfault.StallBody(7)), with(httptestfault.StallBody(0)), with(httptestfault.StallBody(0)), with(httptestfault.StallBody(0))), sent: from("7-", "7-", "7-"), status: 200, body: text[:7], err: retry.ErrExhausted},
		{name: "chunked, closed", script: altered(v1, chunked(with(httptestfault.CutBody(7)))), sent: from("7-"), status: 200, body: text},
		{name: "chunked, every part", script: altered(v1, chunked(with(httptestfault.CutBody(7))), chunked(with(httptestfault.CutBody(7)))), sent: from("7-", "14-"), status: 200, body: text},
		{name: "chunked, only the last chunk is missing", script: altered(v1, chunked(with(httptestfault.CutBody(20)))), sent: from("20-"), status: 200, body: text},
		{name: "length known, all there, then reset", script: altered(v1, with(httptestfault.ResetBody(20))), status: 200, body: text, sent: times(1, "GET")},

		{name: "a date is enough", script: altered(dated, with(httptestfault.CutBody(7))), sent: from("7-"), status: 200, body: text},
		{name: "a date too fresh", script: altered(fresh, with(httptestfault.CutBody(7))), sent: times(1, "GET"), status: 200, body: text[:7], err: httpretry.ErrNoValidator},
		{name: "a date that the part does not have", script: altered(dated, with(httptestfault.CutBody(7)), header("Last-Modified", "")), sent: from("7-"), status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "a date without a Date", script: altered(dated, both(with(httptestfault.CutBody(7)), func(s httptestfault.Response) httptestfault.Response { s.Header["Date"] = nil; return s })), sent: times(1, "GET"), status: 200, body: text[:7], err: httpretry.ErrNoValidator},
		{name: "weak tag", script: altered(weak, with(httptestfault.CutBody(7))), sent: times(1, "GET"), status: 200, body: text[:7], err: httpretry.ErrNoValidator},
		{name: "weak tag, nothing read", script: altered(weak, with(httptestfault.CutBody(0))), sent: times(2, "GET"), status: 200, body: text},
		{name: "nothing to identify it", script: altered(bare, with(httptestfault.CutBody(7))), sent: times(1, "GET"), status: 200, body: text[:7], err: httpretry.ErrNoValidator},
		{name: "nothing to identify it, the break itself", script: altered(bare, with(httptestfault.CutBody(7))), sent: times(1, "GET"), status: 200, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "nothing to identify it, nothing read", script: altered(bare, with(httptestfault.CutBody(0)), with(httptestfault.CutBody(0))), sent: times(3, "GET"), status: 200, body: text},
		{name: "nothing to identify it, nothing read, another length", script: altered(bare, with(httptestfault.CutBody(0)), instead(ok)), sent: times(2, "GET"), status: 200, err: httpretry.ErrChanged},
		{name: "nothing to identify it, patience", options: impatient, script: altered(bare, with(httptestfault.StallBody(7))), sent: times(1, "GET"), status: 200, body: text[:7], err: httpretry.ErrNoValidator},

		{name: "no progress twice", script: altered(v1, with(httptestfault.CutBody(7)), with(httptestfault.CutBody(0)), with(httptestfault.CutBody(0))), sent: from("7-", "7-", "7-"), status: 200, body: text},
		{name: "no progress too often", script: altered(v1, with(httptestfault.CutBody(7)), with(httptestfault.CutBody(0)), with(httptestfault.CutBody(0)), with(httptestfault.CutBody(0))), sent: from("7-", "7-", "7-"), status: 200, body: text[:7], err: retry.ErrExhausted},
		{name: "progress resets the count", script: altered(v1, with(httptestfault.CutBody(7)), with(httptestfault.CutBody(0)), with(httptestfault.CutBody(0)), nil), policy: func(p *retry.Policy) { p.MaxAttempts = 4 }, sent: from("7-", "7-", "7-"), status: 200, body: text},
		{name: "progress between", script: altered(v1, with(httptestfault.CutBody(4)), with(httptestfault.CutBody(0)), with(httptestfault.CutBody(4)), with(httptestfault.CutBody(0)), with(httptestfault.CutBody(4)), with(httptestfault.CutBody(0))), sent: from("4-", "4-", "8-", "8-", "12-", "12-"), status: 200, body: text},
		{name: "503 in between", script: altered(v1, with(httptestfault.CutBody(7)), instead(status(503)), instead(status(429))), sent: from("7-", "7-", "7-"), status: 200, body: text},
		{name: "503 for ever", script: altered(v1, with(httptestfault.CutBody(7)), instead(status(503)), instead(status(503)), instead(status(503))), sent: from("7-", "7-", "7-"), status: 200, body: text[:7], err: retry.ErrExhausted},
		{name: "Retry-After too long", script: altered(v1, with(httptestfault.CutBody(7)), instead(httptestfault.Response{Status: 503, Header: http.Header{"Retry-After": {"3600"}}})), sent: from("7-"), status: 200, body: text[:7], err: retry.ErrRetryLater},
		{name: "reset in between", script: altered(v1, with(httptestfault.CutBody(7)), with(httptestfault.Reset())), sent: from("7-", "7-"), status: 200, body: text},
		{name: "gone in between", script: altered(v1, with(httptestfault.CutBody(7)), instead(status(404))), sent: from("7-"), status: 200, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "moved in between", script: altered(v1, with(httptestfault.CutBody(7)), instead(httptestfault.Response{Status: 302, Header: http.Header{"Location": {"/elsewhere"}}})), sent: from("7-"), status: 200, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "the break is told", script: altered(v1, with(httptestfault.ResetBody(7)), instead(status(404))), status: 200, err: syscall.ECONNRESET, policy: func(p *retry.Policy) { p.MaxAttempts = 1 }, body: text[:7], sent: from("7-")},

		{name: "no resume", options: httpretry.Options{NoResume: true}, script: altered(v1, with(httptestfault.CutBody(7))), sent: times(1, "GET"), status: 200, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "POST", method: "POST", script: altered(v1, with(httptestfault.CutBody(7))), sent: times(1, "POST"), status: 200, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "GET with a body", method: "GET", upload: func() io.Reader { return strings.NewReader("q") }, script: altered(v1, with(httptestfault.CutBody(7))), sent: times(1, "GET q"), status: 200, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "a failure's body", script: altered(v1, both(func(s httptestfault.Response) httptestfault.Response { s.Status = 404; return s }, with(httptestfault.CutBody(7)))), sent: times(1, "GET"), status: 404, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "time is up", script: altered(v1, with(httptestfault.CutBody(7))), policy: func(p *retry.Policy) { p.MaxElapsed = time.Nanosecond }, sent: times(1, "GET"), status: 200, body: text[:7], err: retry.ErrDeadline},
		{name: "cancelled", options: httpretry.Options{StallTimeout: -1}, script: altered(v1, with(httptestfault.StallBody(7))), ctx: func(ctx context.Context) context.Context { return within(ctx, 40*time.Millisecond) }, sent: times(1, "GET"), status: 200, body: text[:7], err: context.DeadlineExceeded},
	})
}

func TestPartsThatAreWrong(t *testing.T) {
	v1 := versioned()
	v2 := httptestfault.Resource{Body: []byte("ZYXWVUTSRQPONMLKJIHG"), ETag: `"v2"`}
	longer := httptestfault.Resource{Body: []byte(text + "k"), ETag: `"v1"`}
	fin := with(httptestfault.CutBody(7))
	first := with(httptestfault.CutBody(0))
	replaced := func(then ...change) httptestfault.Script { // after the first response the resource has changed
		return func(n int, r *http.Request) httptestfault.Response {
			if n == 1 {
				return fin(v1.Respond(r))
			}
			return altered(v2, append([]change{nil}, then...)...)(n, r)
		}
	}
	second := []string{"GET", "GET bytes=7-"}
	runRows(t, []row{
		{name: "replaced", script: replaced(), sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "replaced, and it lies", script: replaced(instead(httptestfault.Response{Status: 206, Header: http.Header{"Content-Range": {"bytes 7-19/20"}, "Etag": {`"v2"`}}, Body: v2.Body[7:]})), sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "replaced, 412", script: replaced(instead(status(412))), sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "replaced before anything was read", script: func(n int, r *http.Request) httptestfault.Response {
			if n == 1 {
				return first(v1.Respond(r))
			}
			return v2.Respond(r)
		}, sent: times(2, "GET"), status: 200, err: httpretry.ErrChanged},
		{name: "same tag, another length", script: func(n int, r *http.Request) httptestfault.Response {
			if n == 1 {
				return fin(v1.Respond(r))
			}
			return longer.Respond(r)
		}, sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "no tag", script: altered(v1, fin, header("ETag", "")), sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "weak tag", script: altered(v1, fin, header("ETag", `W/"v1"`)), sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "another coding", script: altered(v1, fin, header("Content-Encoding", "br")), sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "no Content-Range", script: altered(v1, fin, header("Content-Range", "")), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "garbage", script: altered(v1, fin, header("Content-Range", "bytes seven to the end")), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "another unit", script: altered(v1, fin, header("Content-Range", "lines 7-19/20")), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "unsatisfied 206", script: altered(v1, fin, header("Content-Range", "bytes */20")), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "starts too late", script: altered(v1, fin, partial("bytes 8-19/20", text[8:])), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "ends too early to matter", script: altered(v1, fin, partial("bytes 3-6/20", text[3:7])), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "length is not that of the range", script: altered(v1, fin, partial("bytes 7-19/20", text[7:15])), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "another total", script: altered(v1, fin, partial("bytes 7-19/21", text[7:])), sent: second, status: 200, body: text[:7], err: httpretry.ErrChanged},
		{name: "many parts", script: altered(v1, fin, both(header("Content-Range", ""), header("Content-Type", "multipart/byteranges; boundary=x"))), sent: second, status: 200, body: text[:7], err: httpretry.ErrWrongRange},
		{name: "204", script: altered(v1, fin, instead(httptestfault.Response{Status: 204})), sent: second, status: 200, body: text[:7], err: io.ErrUnexpectedEOF},
		{name: "304", script: altered(v1, fin, instead(httptestfault.Response{Status: 304, Header: http.Header{"Etag": {`"v1"`}}})), sent: second, status: 200, body: text[:7], err: io.ErrUnexpectedEOF},

		{name: "starts earlier", script: altered(v1, fin, partial("bytes 3-19/20", text[3:])), sent: second, status: 200, body: text},
		{name: "part of the part", script: altered(v1, fin, partial("bytes 7-9/20", text[7:10])), sent: []string{"GET", "GET bytes=7-", "GET bytes=10-"}, status: 200, body: text},
		{name: "total unknown", script: altered(v1, fin, partial("bytes 7-19/*", text[7:])), sent: second, status: 200, body: text},
		{name: "chunked and longer than its range", script: altered(v1, fin, both(partial("bytes 7-9/20", text[7:10]+"XXXX"), chunked(func(s httptestfault.Response) httptestfault.Response { return s }))), sent: []string{"GET", "GET bytes=7-", "GET bytes=10-"}, status: 200, body: text},
		{name: "all totals unknown", script: altered(v1, chunked(fin), partial("bytes 7-12/*", text[7:13]), partial("bytes 13-19/*", text[13:])), sent: []string{"GET", "GET bytes=7-", "GET bytes=13-", "GET bytes=20-"}, status: 200, body: text},
		{name: "416 at another end", script: altered(v1, chunked(with(httptestfault.CutBody(20))), instead(httptestfault.Response{Status: 416, Header: http.Header{"Content-Range": {"bytes */19"}}})), sent: []string{"GET", "GET bytes=20-"}, status: 200, body: text, err: httpretry.ErrChanged},
		{name: "416 without an end", script: altered(v1, chunked(with(httptestfault.CutBody(20))), instead(httptestfault.Response{Status: 416})), sent: []string{"GET", "GET bytes=20-"}, status: 200, body: text, err: httpretry.ErrChanged},
		{name: "the range is ignored", script: altered(v1, fin, anyway), sent: second, status: 200, body: text},
		{name: "the range is ignored, and it breaks before", script: altered(v1, fin, both(anyway, with(httptestfault.CutBody(5))), anyway), sent: []string{"GET", "GET bytes=7-", "GET bytes=7-"}, status: 200, body: text},
		{name: "the range is ignored, and it breaks behind", script: altered(v1, fin, both(anyway, with(httptestfault.CutBody(15))), anyway), sent: []string{"GET", "GET bytes=7-", "GET bytes=15-"}, status: 200, body: text},
	})
}

func TestPartsThatTheCallerAskedFor(t *testing.T) {
	v1 := versioned()
	five := http.Header{"Range": {"bytes=5-14"}}
	fin := with(httptestfault.CutBody(3))
	runRows(t, []row{
		{name: "whole", header: five, script: altered(v1), sent: []string{"GET bytes=5-14"}, status: 206, body: text[5:15]},
		{name: "cut", header: five, script: altered(v1, fin), sent: []string{"GET bytes=5-14", "GET bytes=8-14"}, status: 206, body: text[5:15]},
		{name: "cut at once", header: five, script: altered(v1, with(httptestfault.CutBody(0))), sent: times(2, "GET bytes=5-14"), status: 206, body: text[5:15]},
		{name: "to the end", header: http.Header{"Range": {"bytes=15-"}}, script: altered(v1, fin), sent: []string{"GET bytes=15-", "GET bytes=18-19"}, status: 206, body: text[15:]},
		{name: "the last", header: http.Header{"Range": {"bytes=-4"}}, script: altered(v1, fin), sent: []string{"GET bytes=-4", "GET bytes=19-19"}, status: 206, body: text[16:]},
		{name: "many", header: http.Header{"Range": {"bytes=0-1,5-6"}}, script: altered(v1, func(s httptestfault.Response) httptestfault.Response {
			s.Body = []byte("--x--")
			s.Header.Set("Content-Length", "5")
			return s.With(httptestfault.CutBody(3))
		}), sent: []string{"GET bytes=0-1,5-6"}, status: 206, body: "--x", err: io.ErrUnexpectedEOF},
		{name: "ignored", header: five, script: altered(v1, both(anyway, fin)), sent: []string{"GET bytes=5-14", "GET bytes=3-"}, status: 200, body: text},
		{name: "the rest is the whole", header: five, script: altered(v1, fin, anyway), sent: []string{"GET bytes=5-14", "GET bytes=8-14"}, status: 206, body: text[5:15]},
		{name: "not satisfiable", header: http.Header{"Range": {"bytes=50-"}}, script: altered(v1), sent: []string{"GET bytes=50-"}, status: 416, body: "invalid range: failed to overlap\n"},
		{name: "a false range", header: five, script: altered(v1, both(header("Content-Range", "bytes 5-9/20"), fin)), sent: []string{"GET bytes=5-14"}, status: 206, body: text[5:8], err: io.ErrUnexpectedEOF},
		{name: "not modified", header: http.Header{"If-None-Match": {`"v1"`}}, script: altered(v1), sent: []string{"GET"}, status: 304},
		{name: "modified, cut", header: http.Header{"If-None-Match": {`"v0"`}}, script: altered(v1, fin), sent: []string{"GET", "GET bytes=3-"}, status: 200, body: text},
	})
}

func zip(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCodingsAndDigests(t *testing.T) {
	sum := sha256.Sum256([]byte(text))
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	digested := func(name, value string) httptestfault.Resource {
		e := versioned()
		e.Header = http.Header{name: {value}}
		return e
	}
	zipped := httptestfault.Resource{Body: zip(t, text), ETag: `"z1"`, Header: http.Header{"Content-Encoding": {"gzip"}}}
	zippedDigest := zipped
	zipSum := sha256.Sum256(zipped.Body)
	zippedDigest.Header = http.Header{"Content-Encoding": {"gzip"}, "Repr-Digest": {"sha-256=:" + base64.StdEncoding.EncodeToString(zipSum[:]) + ":"}}
	fin := with(httptestfault.CutBody(7))
	corrupt := func(s httptestfault.Response) httptestfault.Response {
		s.Body = bytes.ToUpper(s.Body)
		return s
	}
	runRows(t, []row{
		{name: "gzip", script: altered(zipped), sent: times(1, "GET"), status: 200, body: text},
		{name: "gzip, cut", script: altered(zipped, fin, fin), sent: []string{"GET", "GET bytes=7-", "GET bytes=14-"}, status: 200, body: text},
		{name: "gzip, with a digest of what is sent", script: altered(zippedDigest, fin), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: text},
		{name: "gzip that the caller asked for", header: http.Header{"Accept-Encoding": {"gzip"}}, script: altered(zipped, fin), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: string(zipped.Body)},
		{name: "gzip of a 404", script: altered(zipped, func(s httptestfault.Response) httptestfault.Response { s.Status = 404; return s }), sent: times(1, "GET"), status: 404, body: text},
		{name: "gzip of a 503", script: func(_ int, r *http.Request) httptestfault.Response { s := zipped.Respond(r); s.Status = 503; return s }, sent: times(3, "GET"), status: 503, body: text, ended: retry.ErrExhausted},
		{name: "gzip, no resume", options: httpretry.Options{NoResume: true}, script: altered(zipped), sent: times(1, "GET"), status: 200, body: text},
		{name: "no gzip after all", header: http.Header{"Accept-Encoding": {"identity"}}, script: altered(versioned(), fin), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: text},

		{name: "Repr-Digest", script: altered(digested("Repr-Digest", digest)), sent: times(1, "GET"), status: 200, body: text},
		{name: "Repr-Digest, cut", script: altered(digested("Repr-Digest", digest), fin), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: text},
		{name: "Content-Digest, cut", script: altered(digested("Content-Digest", digest), fin), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: text},
		{name: "Repr-Digest, corrupt", script: altered(digested("Repr-Digest", digest), corrupt), sent: times(1, "GET"), status: 200, body: strings.ToUpper(text), err: errDigest},
		{name: "corrupt after a cut", script: altered(digested("Repr-Digest", digest), fin, corrupt), sent: []string{"GET", "GET bytes=7-"}, status: 200, body: text[:7] + strings.ToUpper(text[7:]), err: errDigest},
		{name: "Repr-Digest of a part is not checked", header: http.Header{"Range": {"bytes=0-4"}}, script: altered(digested("Repr-Digest", digest)), sent: []string{"GET bytes=0-4"}, status: 206, body: text[:5]},
		{name: "x-amz-checksum-sha256", script: altered(digested("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:])), corrupt), sent: times(1, "GET"), status: 200, body: strings.ToUpper(text), err: errDigest},
		{name: "Content-MD5", script: altered(digested("Content-Md5", "AAAAAAAAAAAAAAAAAAAAAA==")), sent: times(1, "GET"), status: 200, body: text, err: errDigest},
		{name: "an unknown digest", script: altered(digested("Repr-Digest", "id-crc=:AAAA:")), sent: times(1, "GET"), status: 200, body: text},
	})
}

// errDigest stands for any *DigestError in a row.
var errDigest = errors.New("a digest error")

func TestQuotas(t *testing.T) {
	quota := func(code int, pairs ...string) httptestfault.Response {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return httptestfault.Response{Status: code, Header: h, Body: []byte("later")}
	}
	later := func(name string, step httptestfault.Response) row {
		return row{name: name, steps: []httptestfault.Response{step, ok}, sent: times(1, "GET"), status: step.Status, body: "later", ended: retry.ErrRetryLater}
	}
	soon := func(name string, step httptestfault.Response) row {
		return row{name: name, steps: []httptestfault.Response{step, ok}, sent: times(2, "GET"), status: 200, body: "fine"}
	}
	runRows(t, []row{
		later("RateLimit", quota(429, "RateLimit", `"default";r=0;t=3600`)),
		later("RateLimit of two", quota(429, "RateLimit", `"a";r=9;t=9999, "b";r=0;t=3600`)),
		later("RateLimit of older drafts", quota(503, "RateLimit", "limit=100, remaining=0, reset=3600")),
		later("RateLimit-Reset", quota(429, "RateLimit-Remaining", "0", "RateLimit-Reset", "3600")),
		later("X-RateLimit-Reset, delta", quota(429, "X-RateLimit-Reset", "3600")),
		later("X-RateLimit-Reset, epoch", quota(429, "X-RateLimit-Reset", "4000000000")),
		later("X-RateLimit-Reset, milliseconds", quota(429, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "4000000000000")),
		soon("RateLimit with some left", quota(429, "RateLimit", `"default";r=1;t=3600`)),
		soon("X-RateLimit-Reset with some left", quota(429, "X-RateLimit-Remaining", "5", "X-RateLimit-Reset", "3600")),
		soon("X-RateLimit-Reset in the past", quota(429, "X-RateLimit-Reset", "1000000000")),
		soon("X-RateLimit-Reset, garbage", quota(429, "X-RateLimit-Reset", "tomorrow")),
		soon("X-RateLimit-Reset on a 500", quota(500, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "3600")),
		soon("Retry-After comes first", quota(429, "Retry-After", "0.001", "X-RateLimit-Reset", "3600")),
		{
			name: "a vendor's own", steps: []httptestfault.Response{quota(503, "X-Backoff", "1h", "Retry-After", "0"), ok},
			options: httpretry.Options{RetryAfter: func(res *http.Response) (time.Duration, bool) {
				d, err := time.ParseDuration(res.Header.Get("X-Backoff"))
				return d, err == nil
			}},
			sent: times(1, "GET"), status: 503, body: "later", ended: retry.ErrRetryLater,
		},
	})
}

func TestKeysAndAttempts(t *testing.T) {
	upload := func() io.Reader { return strings.NewReader("data") }
	key := http.Header{"Idempotency-Key": {`"7"`}}
	reset := httptestfault.Response{Fault: httptestfault.Reset()}
	runRows(t, []row{
		{name: "key made", method: "POST", upload: upload, options: httpretry.Options{IdempotencyKeys: true}, steps: []httptestfault.Response{status(503), reset, ok}, sent: times(3, "POST data"), status: 200, body: "fine"},
		{name: "409 at once", method: "POST", upload: upload, header: key, steps: []httptestfault.Response{status(409)}, sent: times(1, "POST data"), status: 409, body: "status 409"},
		{name: "409 while the first is under way", method: "POST", upload: upload, header: key, steps: []httptestfault.Response{reset, status(409), ok}, sent: times(3, "POST data"), status: 200, body: "fine"},
		{name: "409 for ever", method: "POST", upload: upload, header: key, steps: []httptestfault.Response{reset, status(409)}, sent: times(3, "POST data"), status: 409, body: "status 409", ended: retry.ErrExhausted},
		{name: "409 of a PUT", method: "PUT", upload: upload, steps: []httptestfault.Response{reset, status(409)}, sent: times(2, "PUT data"), status: 409, body: "status 409", ended: retry.ErrPermanent},
		{name: "422, the key was used for something else", method: "POST", upload: upload, header: key, steps: []httptestfault.Response{reset, status(422)}, sent: times(2, "POST data"), status: 422, body: "status 422", ended: retry.ErrPermanent},
		{name: "400, no key", method: "POST", upload: upload, steps: []httptestfault.Response{status(400)}, sent: times(1, "POST data"), status: 400, body: "status 400"},
		{name: "attempts are counted", options: httpretry.Options{AttemptHeader: "x-attempt"}, steps: []httptestfault.Response{status(503), status(503), ok}, sent: []string{"GET 1", "GET 2", "GET 3"}, status: 200, body: "fine"},
		{name: "attempts of an upload", method: "PUT", upload: upload, options: httpretry.Options{AttemptHeader: "X-Attempt"}, steps: []httptestfault.Response{status(503), ok}, sent: []string{"PUT 1 data", "PUT 2 data"}, status: 200, body: "fine"},
	})
}
