package download_test

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what a server may offer
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/retry"
)

const part = 64 << 10

// newGetter is the function that the command calls.
var newGetter = getters.NewHTTP

// content returns n bytes that differ from those of another version.
func content(n int, version uint64) []byte {
	body := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(version)}).Read(body)
	return body
}

func resource(body []byte, tag string) httptestfault.Resource {
	return httptestfault.Resource{Body: body, ETag: tag}
}

func client(server *httptestfault.Server) *http.Client {
	policy := retry.Policy{MaxAttempts: 20, BaseDelay: 100 * time.Microsecond, MaxDelay: time.Millisecond, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	return &http.Client{Transport: httpretry.NewTransport(server.Transport(), httpretry.Options{Policy: &policy, OnResume: func(httpretry.Resumption) {}})}
}

func request(t *testing.T, server *httptestfault.Server) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

var errStatus = errors.New("a 404")

func field(name, value string) http.Header { return http.Header{name: {value}} }

func withHeader(e httptestfault.Resource, h http.Header) httptestfault.Resource {
	e.Header = h
	return e
}

// Get, with each kind of response to a request for a whole resource, and for a range of a version.
func TestGetter(t *testing.T) {
	whole := content(3*part, 1)
	sum256, sum512, sumMD5 := sha256.Sum256(whole), sha512.Sum512(whole), md5.Sum(whole) //nolint:gosec // as above
	in64 := base64.StdEncoding.EncodeToString
	good := resource(whole, `"1"`)
	hour := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	v1 := &transfer.Version{ETag: `"1"`, Size: int64(len(whole))}
	dated := &transfer.Version{LastModified: hour.Format(http.TimeFormat), Size: int64(len(whole))}
	coded := &transfer.Version{ETag: `"1"`, Encoding: "gzip", Size: int64(len(whole))}
	all, middle := transfer.Range{To: -1}, transfer.Range{From: 100, To: part}
	set := func(name, value string) func(*httptestfault.Response) {
		return func(s *httptestfault.Response) {
			if s.Status == 206 {
				s.Header.Set(name, value)
			}
		}
	}
	del := func(name string) func(*httptestfault.Response) {
		return func(s *httptestfault.Response) {
			if s.Status == 206 {
				s.Header.Del(name)
			}
		}
	}
	ends := func(framing httptestfault.Framing) func(*httptestfault.Response) {
		return func(s *httptestfault.Response) { s.Framing = framing; s.Header.Del("Content-Length") }
	}
	status := func(n int) func(*httptestfault.Response) { return func(s *httptestfault.Response) { s.Status = n } }
	size := int64(len(whole))
	for _, tt := range []struct {
		name     string
		resource httptestfault.Resource
		spoil    func(*httptestfault.Response)
		r        transfer.Range
		of       *transfer.Version
		err      error
		from     int64
		want     transfer.Version
		sum      string // algorithm of the checksum
		ranges   bool
	}{
		{name: "all", resource: good, r: all, want: *v1, ranges: true},
		{name: "all of none", resource: resource(nil, `"1"`), r: all, want: transfer.Version{ETag: `"1"`}, ranges: true},
		{name: "203", resource: good, spoil: status(203), r: all, want: *v1, ranges: true},
		{name: "by date", resource: httptestfault.Resource{Body: whole, LastModified: hour}, r: all, want: *dated, ranges: true},
		{name: "changed this second", resource: httptestfault.Resource{Body: whole, LastModified: time.Now().Add(time.Minute)}, r: all, want: transfer.Version{Size: size}, ranges: true},
		{name: "weak tag and date", resource: httptestfault.Resource{Body: whole, ETag: `W/"1"`, LastModified: hour}, r: all, want: *dated, ranges: true},
		{name: "weak tag", resource: resource(whole, `W/"1"`), r: all, want: transfer.Version{Size: size}, ranges: true},
		{name: "no ranges", resource: good, spoil: func(s *httptestfault.Response) { s.Header.Del("Accept-Ranges") }, r: all, want: *v1},
		{name: "no length", resource: good, spoil: ends(httptestfault.Chunked), r: all, want: transfer.Version{ETag: `"1"`, Size: -1}, ranges: true},
		{name: "until close", resource: good, spoil: ends(httptestfault.UntilClose), r: all, err: download.ErrTruncatable},
		{name: "until close, with a digest", resource: withHeader(good, field("Repr-Digest", "sha-256=:"+in64(sum256[:])+":")), spoil: ends(httptestfault.UntilClose), r: all, want: transfer.Version{ETag: `"1"`, Size: -1}, sum: "sha256", ranges: true},
		{name: "coded all the same", resource: withHeader(good, field("Content-Encoding", "gzip")), r: all, want: *coded, ranges: true},
		{name: "the strongest digest", resource: withHeader(good, http.Header{"Content-Md5": {in64(sumMD5[:])}, "Content-Digest": {"sha-512=:" + in64(sum512[:]) + ":"}}), r: all, want: *v1, sum: "sha512", ranges: true},
		{name: "of two as strong, the quicker", resource: withHeader(good, field("Repr-Digest", "sha-512=:"+in64(sum512[:])+":, sha-256=:"+in64(sum256[:])+":")), r: all, want: *v1, sum: "sha256", ranges: true},
		{name: "a digest that does not match", resource: withHeader(resource(whole[1:], `"1"`), field("Repr-Digest", "sha-256=:"+in64(sum256[:])+":")), r: all, want: transfer.Version{ETag: `"1"`, Size: size - 1}, sum: "sha256", ranges: true},
		{name: "404", resource: good, spoil: status(404), r: all, err: errStatus},
		{name: "204", resource: good, spoil: status(204), r: all, err: errStatus},
		{name: "416 of all", resource: good, spoil: status(416), r: all, err: errStatus},

		{name: "range", resource: good, r: middle, of: v1, from: 100, want: *v1, ranges: true},
		{name: "rest", resource: good, r: transfer.Range{From: 100, To: -1}, of: v1, from: 100, want: *v1, ranges: true},
		{name: "range by date", resource: httptestfault.Resource{Body: whole, LastModified: hour}, r: middle, of: dated, from: 100, want: *dated, ranges: true},
		{name: "range of a coding", resource: withHeader(good, field("Content-Encoding", "gzip")), r: middle, of: coded, from: 100, want: *coded, ranges: true},
		{name: "range of any version", resource: good, r: middle, from: 100, want: *v1, ranges: true},
		{name: "range, total unknown", resource: good, spoil: set("Content-Range", fmt.Sprintf("bytes 100-%d/*", part-1)), r: middle, of: v1, from: 100, want: *v1, ranges: true},
		{name: "range has the digest of a part", resource: withHeader(good, field("Content-Digest", "sha-512=:"+in64(sum512[:])+":")), r: middle, from: 100, want: *v1, ranges: true},
		{name: "another version", resource: resource(whole, `"2"`), r: middle, of: v1, want: transfer.Version{ETag: `"2"`, Size: size}, ranges: true},
		{name: "another coding", resource: withHeader(good, field("Content-Encoding", "br")), r: middle, of: coded, err: download.ErrChanged},
		{name: "a coding now", resource: withHeader(good, field("Content-Encoding", "gzip")), r: middle, of: v1, err: download.ErrChanged},
		{name: "another version as a range", resource: good, spoil: set("ETag", `"2"`), r: middle, of: v1, err: download.ErrChanged},
		{name: "another total", resource: good, spoil: set("Content-Range", fmt.Sprintf("bytes 100-%d/%d", part-1, size+1)), r: middle, of: v1, err: download.ErrChanged},
		{name: "416 of a version", resource: good, spoil: status(416), r: middle, of: v1, err: download.ErrChanged},
		{name: "no range in a 206", resource: good, spoil: del("Content-Range"), r: middle, of: v1, want: *v1, ranges: true},
		{name: "another range", resource: good, spoil: set("Content-Range", fmt.Sprintf("bytes 101-%d/%d", part, size)), r: middle, of: v1, want: *v1, ranges: true},
		{name: "a shorter range", resource: good, spoil: func(s *httptestfault.Response) {
			if s.Status == 206 {
				s.Header.Set("Content-Range", fmt.Sprintf("bytes 100-149/%d", size))
				s.Header.Set("Content-Length", "50")
				s.Body = s.Body[:50]
			}
		}, r: middle, of: v1, want: *v1, ranges: true},
		{name: "no tag in a 206", resource: good, spoil: del("ETag"), r: middle, of: v1, want: *v1, ranges: true},
		{name: "no coding in a 206", resource: withHeader(good, field("Content-Encoding", "gzip")), spoil: del("Content-Encoding"), r: middle, of: coded, want: *coded, ranges: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptestfault.New(func(_ int, r *http.Request) httptestfault.Response {
				step := tt.resource.Respond(r)
				if tt.spoil != nil {
					tt.spoil(&step)
				}
				return step
			})
			defer server.Close()
			c := client(server)
			defer c.CloseIdleConnections()
			g := newGetter(request(t, server), c)
			res, err := g.Get(t.Context(), tt.r, tt.of)
			if _, ok := errors.AsType[*httpretry.StatusError](err); ok {
				err = errStatus
			}
			if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
				t.Fatalf("error %v; want %v", err, tt.err)
			}
			for _, sent := range server.Requests() {
				if sent.Header.Get("Accept-Encoding") != "identity" || (sent.Header.Get("Range") != "" && tt.of != nil) != (sent.Header.Get("If-Range") != "") {
					t.Errorf("sent %v", sent.Header)
				}
			}
			if err != nil {
				return
			}
			got, err := io.ReadAll(res.Body)
			want := tt.resource.Body
			if res.From > 0 {
				if tt.r.To < 0 {
					tt.r.To = size
				}
				want = want[tt.r.From:tt.r.To]
			}
			if err := errors.Join(err, res.Body.Close()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
			}
			sum := res.Version.Checksum
			if res.Version.Checksum = tt.want.Checksum; sum.Name != tt.sum || res.From != tt.from || res.Ranges != tt.ranges || fmt.Sprint(res.Version) != fmt.Sprint(tt.want) {
				t.Errorf("%+v, checksum %v; want from %d, %+v, %q, ranges %t", res, sum, tt.from, tt.want, tt.sum, tt.ranges)
			}
			if g.Header().Get("Date") == "" {
				t.Errorf("header %v, want that of the response", g.Header())
			}
		})
	}
}

// A response counts as the requested range only if all its headers agree; otherwise it is a whole version, or an error.
func FuzzGetter(f *testing.F) {
	f.Add(206, "bytes 100-199/300", `"1"`, "", int64(100))
	f.Add(206, "bytes 100-199/*", `"1"`, "identity", int64(-1))
	f.Add(206, "bytes 100-199/301", `"1"`, "", int64(100))
	f.Add(206, "bytes 0-99/300", `"1"`, "", int64(100))
	f.Add(206, "bytes 100-198/300", `"1"`, "", int64(99))
	f.Add(206, "bytes */300", `W/"1"`, "gzip", int64(0))
	f.Add(206, "", "", "", int64(1)<<62)
	f.Add(416, "bytes */100", "", "", int64(0))
	f.Add(200, "bytes 100-199/300", `"2"`, "br", int64(300))
	exact := regexp.MustCompile(`(?i)^bytes 0*100-0*199/(0*300|\*)$`)
	whole := resource(content(300, 1), `"1"`)
	v1 := transfer.Version{ETag: `"1"`, Size: 300}
	f.Fuzz(func(t *testing.T, status int, contentRange, tag, coding string, length int64) {
		if text := contentRange + tag + coding; status < 200 || status > 599 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return
		}
		server := httptestfault.NewInMemory(func(n int, r *http.Request) httptestfault.Response {
			if n > 1 {
				return whole.Respond(r)
			}
			step := httptestfault.Response{Status: status, Last: true, Body: make([]byte, 100), Header: http.Header{"Content-Range": {contentRange}, "Etag": {tag}, "Content-Encoding": {coding}}}
			if length >= 0 {
				step.Header.Set("Content-Length", fmt.Sprint(length))
			} else {
				step.Framing = httptestfault.Chunked
			}
			return step
		})
		defer server.Close()
		base := server.Transport()
		defer base.CloseIdleConnections()
		res, err := newGetter(request(t, server), &http.Client{Transport: base}).Get(t.Context(), transfer.Range{From: 100, To: 200}, &v1)
		isRange := status == 206 && exact.MatchString(strings.TrimSpace(contentRange)) && strings.TrimSpace(tag) == `"1"` &&
			(strings.TrimSpace(coding) == "" || strings.EqualFold(strings.TrimSpace(coding), "identity")) && (length < 0 || length == 100)
		switch {
		case err != nil:
			if isRange {
				t.Error(err)
			}
			return
		case isRange != (res.From == 100), res.From != 0 && res.From != 100, isRange && !res.Version.Same(v1):
			t.Errorf("%+v; want the range: %t", res, isRange)
		}
		_ = res.Body.Close()
	})
}
