//go:build integration && unix

package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// region returns the one that a request is signed for.
func region(r *http.Request) string {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if parts := strings.Split(scope, "/"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}

// regional has the store keep each bucket in a region of its own, and response as S3
// does where a request is signed for another one.
func (s *scene) regional(regions map[string]string, refuse func(w http.ResponseWriter, want string)) {
	s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
		bucket, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if want := regions[bucket]; region(r) != want {
			w.Header().Set("Content-Type", "application/xml")
			refuse(w, want)
			return true
		}
		return false
	})
}

// A bucket elsewhere tells its region, and the copy goes there; each side has its
// own.
func TestBucketsInOtherRegions(t *testing.T) {
	for name, refuse := range map[string]func(w http.ResponseWriter, want string){
		"moved": func(w http.ResponseWriter, want string) {
			w.Header().Set("X-Amz-Bucket-Region", want)
			w.WriteHeader(http.StatusMovedPermanently)
			fmt.Fprint(w, `<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message><Endpoint>127.0.0.1:1</Endpoint></Error>`)
		},
		"malformed": func(w http.ResponseWriter, want string) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting '%s'</Message><Region>%s</Region></Error>`, want, want)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			if err := s.store.CreateBucket("other"); err != nil {
				t.Fatal(err)
			}
			s.regional(map[string]string{"bikes": "eu-west-1", "other": "ap-south-1"}, refuse)
			large := generated(17 << 20)
			from := s.from(t, "file", "large", large)
			down := filepath.Join(s.dir, "down")
			many := filepath.Join(s.home, "many")
			_ = os.Mkdir(many, 0o700)
			for i := range 5 {
				write(t, filepath.Join(many, fmt.Sprint(i)), fmt.Append(nil, i))
			}
			for _, args := range [][]string{
				{from, "s3://bikes/large"},
				{"s3://bikes/large", down},
				{"s3://bikes/large", "s3://other/large"},
				{"s3://other/large", down},
				{"-r", many, "s3://other/many"},
				{"-r", "s3://other/many", filepath.Join(s.dir, "many")},
				{"s3://bikes/large", "-"},
			} {
				s.runs(t, 0, args...)
			}
			if got, _ := os.ReadFile(down); !bytes.Equal(got, large) {
				t.Errorf("%d bytes came down", len(got))
			}
			sameAs(t, "many", below(t, filepath.Join(s.dir, "many")), below(t, many))
		})
	}
	t.Run("nowhere", func(t *testing.T) {
		s := newScene(t)
		var n atomic.Int64
		s.line.responses(func(w http.ResponseWriter, _ *http.Request) bool {
			n.Add(1)
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-1")
			w.WriteHeader(http.StatusMovedPermanently)
			fmt.Fprint(w, `<Error><Code>PermanentRedirect</Code></Error>`)
			return true
		})
		if e := s.runs(t, 1, "s3://bikes/x", filepath.Join(s.dir, "x")); !strings.Contains(e.log, "eu-west-1") || n.Load() > 10 {
			t.Errorf("%d requests, want that the region is named: %v", n.Load(), e)
		}
	})
}

// With --no-sign-request no request is signed, and no credentials are needed.
func TestNoSignRequest(t *testing.T) {
	s := newScene(t)
	large := generated(17 << 20)
	s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Header.Get("Authorization") != "" || r.URL.Query().Has("X-Amz-Signature"):
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Query().Has("list-type"):
			fmt.Fprint(w, listing("", "many/x"))
		case r.URL.Path == "/bikes/many/x":
			return page(w, r, []byte("small"))
		default:
			return page(w, r, large)
		}
		return true
	})
	s.environ = slices.DeleteFunc(s.environ, func(v string) bool { return strings.HasPrefix(v, "AWS_ACCESS") || strings.HasPrefix(v, "AWS_SECRET") })
	s.environ = append(s.environ, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	s.runs(t, 0, "--no-sign-request", "s3://bikes/large", filepath.Join(s.dir, "large"))
	s.runs(t, 0, "--no-sign-request", "-r", "s3://bikes/many", filepath.Join(s.dir, "many"))
	sameAs(t, "down", below(t, s.dir), map[string]string{"large": string(large), "many/x": "small"})
}

// With --request-payer each request says who pays.
func TestRequestPayer(t *testing.T) {
	s := newScene(t)
	s.from(t, "s3", "many/x", []byte("x"))
	from := s.from(t, "file", "large", mib20())
	for _, args := range [][]string{
		{from, "s3://bikes/large"},
		{"s3://bikes/large", filepath.Join(s.dir, "large")},
		{"s3://bikes/large", "s3://bikes/twin"},
		{"-r", "s3://bikes/many", filepath.Join(s.dir, "many")},
		{"s3://bikes/large", "-"},
	} {
		s.runs(t, 0, append([]string{"--request-payer"}, args...)...)
	}
	if len(s.line.requests()) < 10 {
		t.Errorf("%d requests", len(s.line.requests()))
	}
	for _, r := range s.line.requests() {
		if r.Header.Get("X-Amz-Request-Payer") != "requester" {
			t.Errorf("%s %s does not say who pays", r.Method, r.URL)
		}
	}
	for _, args := range [][]string{{"-", "x"}, {s.web.URL + "/x", "x"}} {
		s.runs(t, 64, append([]string{"--request-payer"}, args...)...)
	}
}

// With --version-id that version comes, whatever its size and wherever it goes.
func TestVersionID(t *testing.T) {
	for _, size := range []int{10, 17 << 20} {
		s := newScene(t)
		old, now := generated(size), bytes.Repeat([]byte("new"), size/3)
		s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
			source := r.Header.Get("X-Amz-Copy-Source")
			switch _, copied, _ := strings.Cut(source, "?versionId="); {
			case strings.HasPrefix(r.URL.Path, "/bikes/x") && (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.Query().Get("versionId") == "v/1+a":
				return page(w, r, old)
			case strings.HasPrefix(r.URL.Path, "/bikes/x") && (r.Method == http.MethodGet || r.Method == http.MethodHead):
				return page(w, r, now)
			case source != "" && copied != url.QueryEscape("v/1+a") && copied != "v/1+a" && copied != "v/1%2Ba":
				w.WriteHeader(http.StatusBadRequest)
				return true
			case source != "":
				_ = s.store.Store("bikes", strings.TrimPrefix(r.URL.Path, "/bikes/"), old)
				fmt.Fprint(w, `<CopyObjectResult><ETag>"0123456789abcdef0123456789abcdef"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></CopyObjectResult>`)
				return true
			}
			return false
		})
		for _, kind := range []string{"file", "-", "s3"} {
			e := s.copies(t, "", "s3://bikes/x", s.to(kind, "x"), "--version-id", "v/1+a")
			if got := s.came(kind, "x", e); e.code != 0 || !bytes.Equal(got, old) {
				t.Errorf("%d bytes, to %s: %d other bytes; %v", size, kind, len(got), e)
			}
		}
		s.runs(t, 64, "-r", "--version-id", "v1", "s3://bikes/x", s.dir)
		s.runs(t, 64, "--version-id", "v1", s.web.URL, filepath.Join(s.dir, "y"))
		s.runs(t, 64, "--version-id", "v1", "-", "s3://bikes/x")
	}
}

// A listing that goes round is an error, after each of its pages once.
func TestListingThatGoesRound(t *testing.T) {
	for name, next := range map[string]func(token string) string{
		"the same token":   func(string) string { return "again" },
		"back to the one":  func(token string) string { return map[string]string{"": "a", "a": "b", "b": "c", "c": "b"}[token] },
		"truncated, but 0": func(string) string { return " " },
	} {
		for _, way := range []string{"-r down", "-r up"} {
			t.Run(name+", "+way, func(t *testing.T) {
				s := newScene(t)
				var pages atomic.Int64
				s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
					if !r.URL.Query().Has("list-type") {
						return r.Method == http.MethodGet && page(w, r, []byte("small"))
					}
					n := pages.Add(1)
					if n > 10 {
						w.WriteHeader(http.StatusForbidden) // it would be asked for ever
						return true
					}
					fmt.Fprint(w, listing(next(r.URL.Query().Get("continuation-token")), fmt.Sprint("many/", n)))
					return true
				})
				if e := s.run(t, s.ways(t)[way]...); e.code != 1 || pages.Load() > 10 {
					t.Errorf("%d pages, want exit code 1 soon, got %v", pages.Load(), e)
				}
			})
		}
	}
}

// A key that a listing has twice, in one page or in two, is one file.
func TestKeyThatIsListedTwice(t *testing.T) {
	for name, pages := range map[string][][]string{
		"in one page": {{"many/a", "many/b", "many/b", "many/c"}}, "in two": {{"many/a", "many/b"}, {"many/b", "many/c"}},
	} {
		s := newScene(t)
		s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("list-type") {
				return page(w, r, []byte("small"))
			}
			n := len(r.URL.Query().Get("continuation-token"))
			fmt.Fprint(w, listing(strings.Repeat("x", n+1)[:(n+1)*min(1, len(pages)-n-1)], pages[n]...))
			return true
		})
		e := s.runs(t, 0, "-r", "s3://bikes/many", s.dir)
		if want := map[string]string{"a": "small", "b": "small", "c": "small"}; !maps.Equal(below(t, s.dir), want) || !strings.Contains(e.log, "3 files") {
			t.Errorf("%s: want 3 files, there are %v; %v", name, below(t, s.dir), e)
		}
	}
}

// A source in which there is nothing is an error, unless that is allowed.
func TestEmptySource(t *testing.T) {
	s := newScene(t)
	s.from(t, "s3", "many/x", []byte("x"))
	empty := t.TempDir()
	if err := os.MkdirAll(filepath.Join(empty, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-r", "s3://bikes/mani", filepath.Join(s.dir, "x")}, {"-r", "s3://bikes/many/x/y", filepath.Join(s.dir, "x")}, {"-r", empty, "s3://bikes/empty"},
	} {
		if e := s.runs(t, 1, args...); !strings.Contains(e.log, args[1]) {
			t.Errorf("it does not name the source: %v", e)
		}
		s.runs(t, 0, append([]string{"--allow-empty"}, args...)...)
	}
	s.runs(t, 1, "-r", "--allow-empty", filepath.Join(empty, "none"), "s3://bikes/empty")
	s.runs(t, 1, "-r", "--allow-empty", "s3://no-such-bucket/x", filepath.Join(s.dir, "y"))
}
