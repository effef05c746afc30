//go:build integration && unix

package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostile has the scene's servers give that response to all.
func (s *scene) hostile(response func(w http.ResponseWriter, r *http.Request)) {
	for _, f := range []*front{s.web, s.line} {
		f.responses(func(w http.ResponseWriter, r *http.Request) bool { response(w, r); return true })
	}
}

// ways are copies that need an response of a server, by what they are: from, to and
// the flags. What they write is nothing, or below the directory.
func (s *scene) ways(t *testing.T) map[string][]string {
	t.Helper()
	s.from(t, "file", "x", []byte("a file"))
	files := filepath.Join(s.home, "many")
	if err := os.MkdirAll(files, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(files, "one"), []byte("one"))
	return map[string][]string{
		"http to file": {s.web.URL + "/x", filepath.Join(s.dir, "x")},
		"http to -":    {s.web.URL + "/x", "-"},
		"http to s3":   {s.web.URL + "/x", "s3://bikes/x"},
		"s3 to file":   {"s3://bikes/x", filepath.Join(s.dir, "x")},
		"s3 to -":      {"s3://bikes/x", "-"},
		"s3 to s3":     {"s3://bikes/x", "s3://bikes/y"},
		"-r down":      {"-r", "s3://bikes/many", filepath.Join(s.dir, "many")},
		"file to s3":   {filepath.Join(s.home, "from-x"), "s3://bikes/x"},
		"-r up":        {"-r", files, "s3://bikes/many"},
	}
}

// refuses runs a copy that must fail by itself, with few attempts, and write no
// file.
func (s *scene) refuses(t *testing.T, args []string, flags ...string) ending {
	t.Helper()
	e := s.run(t, append(append([]string{"--max-attempts", "2"}, flags...), args...)...)
	if e.code == 0 || e.code > 75 {
		t.Errorf("want an error, got %v", e)
	}
	sameAs(t, "written", below(t, s.dir), nil)
	return e
}

// Whatever an response is that is not what was asked for, nothing is said to be
// copied, and nothing to be not there.
func TestResponsesOfNoStore(t *testing.T) {
	html := "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in.</body></html>"
	for name, response := range map[string]func(w http.ResponseWriter, r *http.Request){
		"a page": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, html)
		},
		"a page that says it is XML": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, html)
		},
		"other XML": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, `<?xml version="1.0"?><feed><entry>x</entry></feed>`)
		},
		"JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"ok":true}`)
		},
		"nothing":      func(http.ResponseWriter, *http.Request) {},
		"no content":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"not modified": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/login", http.StatusFound)
		},
	} {
		for _, way := range []string{"s3 to file", "s3 to -", "s3 to s3", "-r down", "file to s3", "-r up"} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				s.hostile(response)
				if e := s.refuses(t, s.ways(t)[way]); strings.Contains(e.out+e.log, "othing to copy") {
					t.Errorf("it says that there is nothing: %v", e)
				}
			})
		}
	}
}

// A length that no disk and no store has is refused, before anything is allocated for
// it, wherever it stands.
func TestHugeLengths(t *testing.T) {
	for _, size := range []string{"4611686018427387904", "70368744177664", "9223372036854775807", "18446744073709551615", "-1"} {
		for where, response := range map[string]func(w http.ResponseWriter, r *http.Request){
			"length": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", size)
				w.Header().Set("Accept-Ranges", "bytes")
			},
			"range": func(w http.ResponseWriter, r *http.Request) {
				asked := r.Header.Get("Range")
				if asked == "" {
					w.Header().Set("Content-Length", size)
					w.Header().Set("Accept-Ranges", "bytes")
					return
				}
				w.Header().Set("Content-Length", "8388608")
				w.Header().Set("Content-Range", "bytes "+strings.TrimPrefix(asked, "bytes=")+"/"+size)
				w.WriteHeader(http.StatusPartialContent)
			},
			"listing": func(w http.ResponseWriter, r *http.Request) {
				if !r.URL.Query().Has("list-type") {
					w.Header().Set("Content-Length", size)
					return
				}
				fmt.Fprintf(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bikes</Name><KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>many/x</Key><Size>%s</Size><ETag>"0123456789abcdef0123456789abcdef"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>`, size)
			},
		} {
			for _, way := range []string{"http to file", "http to -", "http to s3", "s3 to file", "s3 to -", "s3 to s3", "-r down"} {
				switch {
				case (where == "listing") != (way == "-r down"), where == "range" && way[len(way)-1] == '-': // a stream has no limit
					continue
				case where != "listing" && (size == "-1" || len(size) > 19): // no server can send it
					continue
				}
				t.Run(size+", "+where+", "+way, func(t *testing.T) {
					t.Parallel()
					s := newScene(t)
					s.hostile(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
						w.Header().Set("Last-Modified", "Mon, 05 Jan 2026 00:00:00 GMT")
						if response(w, r); r.Method == http.MethodGet && !r.URL.Query().Has("list-type") {
							_, _ = w.Write(make([]byte, 10_000))
						}
					})
					e := s.refuses(t, s.ways(t)[way])
					if way == "http to s3" && where == "length" && !strings.Contains(e.log, "an object only 5497558138880") {
						t.Errorf("it was sent until the source broke: %v", e)
					}
				})
			}
		}
	}
}

// What has no end takes neither all memory nor all time.
func TestEndlessResponses(t *testing.T) {
	for name, response := range map[string]func(w http.ResponseWriter, r *http.Request){
		"an error's body": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			endless(w, r, "busy ", 0)
		},
		"an error's XML": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>")
			endless(w, r, "no ", 0)
		},
		"an error that is 404": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			endless(w, r, "<x>", 0)
		},
		"a listing": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bikes</Name><IsTruncated>false</IsTruncated>`)
			endless(w, r, "<Contents><Key>many/x</Key><Size>1</Size></Contents>", 0)
		},
		"a listing with one key": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bikes</Name><IsTruncated>false</IsTruncated><Contents><Key>`)
			endless(w, r, "k", 0)
		},
		"a listing that is nested": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `<ListBucketResult>`)
			endless(w, r, "<a>", 0)
		},
		"headers": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 3000 {
				w.Header().Set(fmt.Sprint("X-Amz-Meta-", i), strings.Repeat("x", 1000))
			}
			w.Header().Set("ETag", `"9dd4e461268c8034f5c8564e155c67a6"`) // all is well but for them
			fmt.Fprint(w, "x")
		},
		"a success where none has a body": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && !r.URL.Query().Has("list-type") {
				w.WriteHeader(http.StatusForbidden)
			}
			endless(w, r, "<CompleteMultipartUploadResult>", 0)
		},
	} {
		for _, way := range []string{"http to file", "http to s3", "s3 to file", "s3 to -", "s3 to s3", "-r down", "file to s3", "-r up"} {
			if strings.HasPrefix(name, "a listing") && !strings.HasPrefix(way, "-r") || strings.HasPrefix(name, "a success") && strings.HasPrefix(way, "http") {
				continue
			}
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				s := newScene(t)
				s.hostile(response)
				s.refuses(t, s.ways(t)[way])
			})
		}
	}
}

// A body that comes by the byte is given up when max_elapsed is over.
func TestBodyByTheByte(t *testing.T) {
	for _, way := range []string{"http to file", "http to -", "http to s3", "s3 to file", "s3 to -", "-r down"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.hostile(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("list-type") {
					fmt.Fprint(w, strings.ReplaceAll(listing("", "many/x"), "<Size>5<", "<Size>1000000<"))
					return
				}
				w.Header().Set("ETag", `"5-736d616c6c"`)
				w.Header().Set("Content-Length", "1000000")
				endless(w, r, "x", 20*time.Millisecond)
			})
			if e := s.run(t, append([]string{"--max-elapsed", "500ms"}, s.ways(t)[way]...)...); e.code != 69 {
				t.Errorf("want exit code 69, got %v", e)
			}
			for _, name := range []string{"x", "many/x"} {
				if _, err := os.Stat(filepath.Join(s.dir, name)); err == nil {
					t.Errorf("%s is there", name)
				}
			}
		})
	}
}

// listing is a page of one, with the keys, whose objects are "small" (see page),
// and a token for the next one; "": it is the last.
func listing(token string, keys ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bikes</Name><KeyCount>%d</KeyCount><IsTruncated>%v</IsTruncated>`, len(keys), token != "")
	if token != "" {
		fmt.Fprintf(&b, "<NextContinuationToken>%s</NextContinuationToken>", token)
	}
	for _, key := range keys {
		fmt.Fprintf(&b, `<Contents><Key>%s</Key><Size>5</Size><ETag>"5-736d616c6c"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`, key)
	}
	return b.String() + "</ListBucketResult>"
}

// Bytes that have another checksum than their server says are a permanent failure, wherever they go and however often they
// were fetched; nothing is there of them.
func TestWrongChecksum(t *testing.T) {
	s := newScene(t)
	content := generated(9 << 20)
	s.web.responses(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(make([]byte, 32))+":")
		return page(w, r, content)
	})
	s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Header.Get("X-Amz-Copy-Source") != "":
			w.WriteHeader(http.StatusNotImplemented) // so it goes through here
			return true
		case r.URL.Path != "/bikes/x" || r.Method != http.MethodGet:
			return false
		}
		w.Header().Set("X-Amz-Checksum-Crc32", base64.StdEncoding.EncodeToString(make([]byte, 4)))
		return page(w, r, content)
	})
	_ = s.store.Store("bikes", "x", content)
	for _, from := range []string{s.web.URL + "/x", "s3://bikes/x"} {
		for _, to := range []string{"file", "-", "s3"} {
			e := s.runs(t, 1, from, s.to(to, "x"), "--max-attempts", "2", "--base-delay", "1ms", "--jitter", "0")
			if !strings.Contains(e.log, "checksum") && !strings.Contains(e.log, "digest") || to != "-" && s.came(to, "x", e) != nil {
				t.Errorf("%s to %s: %d bytes are there, %v", from, to, len(s.came(to, "x", e)), e.log)
			}
		}
	}
	if e := s.runs(t, 1, "-r", "s3://bikes", s.dir, "--max-attempts", "2", "--base-delay", "1ms"); len(below(t, s.dir)) != 0 {
		t.Errorf("files are there: %v", e)
	}
}

// A key that its store has encoded wrongly is refused by name; the others come.
func TestKeyThatCannotBeDecoded(t *testing.T) {
	s := newScene(t)
	s.line.responses(func(w http.ResponseWriter, r *http.Request) bool {
		if !r.URL.Query().Has("list-type") {
			return false
		}
		fmt.Fprint(w, "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>raw%2Fa</Key><Size>1</Size></Contents><Contents><Key>raw%2Fb%zz</Key><Size>1</Size></Contents><Contents><Key>raw%2Fc+d</Key><Size>1</Size></Contents></ListBucketResult>")
		return true
	})
	for _, key := range []string{"raw/a", "raw/c d"} {
		_ = s.store.Store("bikes", key, []byte("x"))
	}
	e := s.runs(t, 1, "-r", "s3://bikes/raw", s.dir)
	if !strings.Contains(e.log, `ERROR: Failed: refuse s3://bikes/raw/b%zz at `) || !strings.Contains(e.log, `invalid URL escape "%zz"`) {
		t.Error(e)
	}
	sameAs(t, "down", below(t, s.dir), map[string]string{"a": "x", "c d": "x"})
	s.runs(t, 0, "-r", s.dir, "s3://bikes/raw")
}
