//go:build integration && unix

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// zipped returns content that does not get smaller by it.
func zipped(t *testing.T, size int) (plain, packed []byte) {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	plain = generated(size)
	if _, err := w.Write(plain); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return plain, b.Bytes()
}

func sha(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// A page is the bytes that its server has, wherever they go: what is coded comes
// as it is, --checksum is of that, and an object has the coding as its attribute.
func TestOneSourceIsTheSameBytesEverywhere(t *testing.T) {
	for _, size := range []int{100, 9 << 20, 17 << 20} {
		for _, server := range []string{"always coded", "coded if asked", "coded, chunked"} {
			plain, packed := zipped(t, size)
			want, coding := packed, "gzip"
			if server == "coded if asked" {
				want, coding = plain, ""
			}
			for _, kind := range []string{"file", "-", "s3"} {
				t.Run(fmt.Sprintf("%d bytes, %s, to %s", size, server, kind), func(t *testing.T) {
					t.Parallel()
					s := newScene(t)
					s.web.responses(func(w http.ResponseWriter, r *http.Request) bool {
						w.Header().Set("Content-Type", "text/csv")
						switch {
						case server == "coded if asked" && !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"):
							return page(w, r, plain)
						case server == "coded, chunked":
							w.Header().Set("Content-Encoding", "gzip")
							_, _ = w.Write(packed)
							return true
						}
						w.Header().Set("Content-Encoding", "gzip")
						return page(w, r, packed)
					})
					from := s.web.URL + "/real.csv.gz"
					for _, flags := range [][]string{nil, {"--checksum", sha(want)}} {
						e := s.copies(t, "", from, s.to(kind, "real"), flags...)
						if got := s.came(kind, "real", e); e.code != 0 || !bytes.Equal(got, want) {
							t.Errorf("%q: %d bytes, want %d; %v", flags, len(got), len(want), e)
						}
					}
					if e := s.copies(t, "", from, s.to(kind, "wrong"), "--checksum", sha(append(plain, packed...))); e.code != 1 {
						t.Errorf("another checksum: want exit code 1, got %v", e)
					}
					if kind == "s3" {
						head, err := s.client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bikes"), Key: aws.String("to/real")})
						if err != nil || aws.ToString(head.ContentEncoding) != coding || aws.ToString(head.ContentType) != "text/csv" {
							t.Errorf("the object's coding is %q and its type %q, want %q and text/csv (%v)",
								aws.ToString(head.ContentEncoding), aws.ToString(head.ContentType), coding, err)
						}
					}
				})
			}
		}
	}
}

// attributes returns what is known of an object besides its bytes.
func (s *testServers) attributes(t *testing.T, key string) map[string]string {
	t.Helper()
	head, err := s.client().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bikes"), Key: &key})
	if err != nil {
		t.Errorf("%s: %v", key, err)
		return nil
	}
	tags, err := s.client().GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String("bikes"), Key: &key})
	if err != nil {
		t.Errorf("%s: %v", key, err)
		return nil
	}
	all := map[string]string{
		"type": aws.ToString(head.ContentType), "coding": aws.ToString(head.ContentEncoding), "language": aws.ToString(head.ContentLanguage),
		"disposition": aws.ToString(head.ContentDisposition), "cache": aws.ToString(head.CacheControl),
		"class": string(head.StorageClass),
	}
	for name, value := range head.Metadata {
		all["meta "+strings.ToLower(name)] = value
	}
	for _, tag := range tags.TagSet {
		all["tag "+*tag.Key] = *tag.Value
	}
	return all
}

// What an object is besides its bytes goes along to another object, small or
// large, and within one store the bytes do not come here.
func TestAttributesGoAlong(t *testing.T) {
	for _, size := range []int{0, 100, 9 << 20, 17 << 20} {
		for name, full := range map[string]bool{"all of them": true, "none": false} {
			t.Run(fmt.Sprintf("%d bytes, %s", size, name), func(t *testing.T) {
				s := newScene(t)
				_, content := zipped(t, size)
				put := &s3.PutObjectInput{Bucket: aws.String("bikes"), Key: aws.String("data.json"), Body: bytes.NewReader(content)}
				if full {
					put.ContentType, put.ContentEncoding, put.ContentLanguage = aws.String("application/json"), aws.String("gzip"), aws.String("de")
					put.ContentDisposition, put.CacheControl = aws.String(`attachment; filename="a b.json"`), aws.String("max-age=60")
					put.Metadata = map[string]string{"owner": "me", "a-b": "some words, and more"}
					put.Tagging, put.StorageClass = aws.String("team=bikes&stage=raw%20data"), types.StorageClassStandardIa
				}
				if _, err := s.client().PutObject(t.Context(), put); err != nil {
					t.Fatal(err)
				}
				s.store.Reset()
				e := s.run(t, "s3://bikes/data.json", "s3://bikes/copy.json")
				read := s.store.Count(http.MethodGet, "/bikes/data.json")
				for _, r := range s.store.Requests() {
					if r.Query.Has("tagging") {
						read-- // not its bytes
					}
				}
				if got, _ := s.store.Object("bikes", "copy.json"); e.code != 0 || !bytes.Equal(got, content) {
					t.Errorf("%d bytes, want %d; %v", len(got), len(content), e)
				}
				if got, want := s.attributes(t, "copy.json"), s.attributes(t, "data.json"); !maps.Equal(got, want) {
					t.Errorf("attributes are\n%q, want\n%q", got, want)
				}
				if read > 0 {
					t.Errorf("the bytes came here by %d requests, want a copy by the store", read)
				}
				if left := s.store.Uploads(); len(left) > 0 {
					t.Errorf("uploads are left: %v", left)
				}
			})
		}
	}
}

// So do those of a page, as far as an object has a place for them.
func TestAttributesOfAPage(t *testing.T) {
	for _, size := range []int{100, 9 << 20} {
		s := newScene(t)
		headers := map[string]string{
			"Content-Type": "application/json; charset=utf-8", "Content-Language": "de", "Content-Disposition": `attachment; filename="x.json"`, "Cache-Control": "max-age=60",
		}
		content := generated(size)
		s.web.responses(func(w http.ResponseWriter, r *http.Request) bool {
			for name, value := range headers {
				w.Header().Set(name, value)
			}
			return page(w, r, content)
		})
		s.runs(t, 0, s.web.URL+"/x.json", "s3://bikes/x.json")
		want := map[string]string{
			"type": headers["Content-Type"], "coding": "", "language": "de", "disposition": headers["Content-Disposition"], "cache": "max-age=60", "class": "",
		}
		if got := s.attributes(t, "x.json"); !maps.Equal(got, want) {
			t.Errorf("%d bytes: attributes are\n%q, want\n%q", size, got, want)
		}
	}
}

// An object with a coding comes as the bytes that it has, into a file and to
// standard output.
func TestCodedObjectComesAsItIs(t *testing.T) {
	for _, size := range []int{100, 17 << 20} {
		for _, kind := range []string{"file", "-"} {
			s := newScene(t)
			_, content := zipped(t, size)
			if _, err := s.client().PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String("bikes"), Key: aws.String("x.gz"), Body: bytes.NewReader(content), ContentEncoding: aws.String("gzip"),
			}); err != nil {
				t.Fatal(err)
			}
			e := s.copies(t, "", "s3://bikes/x.gz", s.to(kind, "x.gz"), "--checksum", sha(content))
			if got := s.came(kind, "x.gz", e); e.code != 0 || !bytes.Equal(got, content) {
				t.Errorf("%d bytes to %s: %d other bytes; %v", len(content), kind, len(got), e)
			}
		}
	}
}

// Every name that a file, a page and an object can have leads to the same bytes.
func TestOddNamesOfSources(t *testing.T) {
	for _, name := range []string{"a b", "ä", "100%", "a+b", "-x", "a?b", "a#b", "a&b=c", "a;b", "'q'", `"q"`, "back\\slash", "日本", "%41", "~", "*", "[x]", "{y}"} {
		s := newScene(t)
		s.from(t, "s3", name, []byte("the object"))
		s.from(t, "http", name, []byte("the page"))
		for from, want := range map[string]string{"s3://bikes/" + strings.ReplaceAll(name, "*", `\*`): "the object", s.web.URL + "/" + url.PathEscape(name): "the page"} {
			for _, kind := range []string{"file", "s3"} {
				e := s.copies(t, "", from, s.to(kind, name))
				if got := s.came(kind, name, e); e.code != 0 || string(got) != want {
					t.Errorf("%q to %s: %q, want %q; %v", from, kind, got, want, e)
				}
			}
		}
	}
}
