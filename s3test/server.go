// Package s3test is an S3 server inside your test, with faults in front of it that a test or a seed decides.
//
// It speaks real HTTP on 127.0.0.1, checks signatures (SigV4) and checksums, knows multipart uploads, ranges and
// conditional writes, and tells afterwards which requests came in. So code that retries is tested with the client and the
// wire that it has in production:
//
//	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
//	server.Script(s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1, 2}, Fault: s3test.SlowDown()}))
//	// ... upload with the AWS SDK to server.URL() ...
//	if got := server.Count("PUT", "/bikes/"); got != 3 { ... }
//
// Faults come from a script ([Server.Script], [Rules]) that says exactly what happens to which request, or from a seed
// ([Faults], [TypicalFaults]), or both.
//
// What it is not: objects and unfinished uploads are held in memory until deleted or the server is closed, and nothing is
// ever written to disk (a part takes its size twice for a moment, finishing a multipart upload three times). The ETag of a
// multipart object is the MD5 of its bytes, without S3's "-N". Parts may be smaller than 5 MiB. Regions, ACLs and policies are not
// checked. Keys of the customer's (SSE-C) are taken and neither used nor compared: what was sent is in the headers of
// [Server.Requests]. GetObject by part number fails. The S3 behind it is github.com/rclone/gofakes3.
package s3test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

// Options configures a Server. The zero value is a server without buckets or faults.
type Options struct {
	AccessKey string   // at least 3 characters; "" = "s3test"
	SecretKey string   // "" = "s3test-secret"
	Buckets   []string // made before the server answers

	Script func(Request) Fault // see [Server.Script]
	Faults Faults              // see [Server.SetFaults]

	// Upstream, if set, is the URL of another S3 server, which answers in place of this one: so that it can be tried with
	// the faults, and its requests can be counted. AccessKey and SecretKey are its own then, Buckets must be empty, and what
	// is said of objects (Store, Object, Keys, Uploads, CreateBucket) is not of its objects.
	Upstream string

	// Drain is how many bytes of a request's body are still read when the answer is settled before its end (a fault, a
	// missing bucket), for at most 10 s. A longer body gets its answer and then a closed connection, which the client may
	// see as a reset. 0 = 1 GiB; negative = none, so that early answers meet a client that is still sending.
	Drain int64

	TLS *tls.Config // with a certificate: serve https (HTTP/1.1 only); nil = http
}

// Server is a running S3 server. Make it with [New] or [Start]; the zero value is of no use. All methods may be called at
// any time by any goroutine. No method waits for the network except Close.
type Server struct {
	AccessKey string // the credentials that it accepts; do not change
	SecretKey string

	url   string
	drain int64
	store *store
	s3    http.Handler
	http  http.Server
	// upstream answers in place of s3, if it is set.
	upstream *httputil.ReverseProxy
	served   chan struct{} // closed when the listener's loop has ended
	closing  chan struct{} // closed by Close
	once     sync.Once
	journal  journal
}

// connKey is the context key of a connection's number.
type connKey struct{}

// New starts a server on a free port of 127.0.0.1. It fails on options out of range, with an error that names the field,
// and if there is no port. Call Close when done.
func New(o Options) (*Server, error) {
	s := &Server{
		AccessKey: o.AccessKey, SecretKey: o.SecretKey, drain: o.Drain,
		store:  &store{Backend: s3mem.New()},
		served: make(chan struct{}), closing: make(chan struct{}),
	}
	if s.AccessKey == "" {
		s.AccessKey = "s3test"
	}
	if s.SecretKey == "" {
		s.SecretKey = "s3test-secret"
	}
	if s.drain == 0 {
		s.drain = 1 << 30
	}
	if len(s.AccessKey) < 3 {
		return nil, fmt.Errorf("s3test: Options.AccessKey is %q, want at least 3 characters", s.AccessKey)
	}
	s.s3 = &parts{Handler: gofakes3.New(s.store).Server()}
	if o.Upstream != "" {
		upstream, err := url.Parse(o.Upstream)
		if err != nil || upstream.Host == "" || len(o.Buckets) > 0 {
			return nil, fmt.Errorf("s3test: Options.Upstream is %q with %d Buckets, want a URL and none", o.Upstream, len(o.Buckets))
		}
		s.upstream = forward(upstream)
	}
	s.Script(o.Script)
	if err := s.SetFaults(o.Faults); err != nil {
		return nil, err
	}
	for _, bucket := range o.Buckets {
		if err := s.CreateBucket(bucket); err != nil {
			return nil, err
		}
	}
	if err := s.listen(o.TLS); err != nil {
		return nil, err
	}
	return s, nil
}

// TB is the part of testing.TB that Start needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start is New for tests: it ends the test if there is an error, and closes the server when the test ends.
func Start(tb TB, o Options) *Server {
	tb.Helper()
	s, err := New(o)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(s.Close)
	return s
}

func (s *Server) listen(config *tls.Config) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding a local port does not wait
	if err != nil {
		return fmt.Errorf("s3test: %w", err)
	}
	s.url = "http://" + listener.Addr().String()
	if config != nil {
		listener = tls.NewListener(listener, config)
		s.url = "https://" + listener.Addr().String()
	}
	s.http.Handler = http.HandlerFunc(s.serve)
	s.http.ReadHeaderTimeout = time.Minute
	s.http.ErrorLog = log.New(io.Discard, "", 0)
	s.http.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, s.journal.connected())
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(listener)
	}()
	return nil
}

// Close stops the server at once: requests in flight lose their connection. Its objects can still be read by Object.
// A second Close does nothing.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.closing)
		_ = s.http.Close()
	})
	<-s.served
}

// URL is the endpoint, as "http://127.0.0.1:40001". Clients must use path-style addressing.
func (s *Server) URL() string { return s.url }

// CreateBucket makes a bucket, past faults and credentials. A name that exists or that S3 forbids is an error.
func (s *Server) CreateBucket(name string) error {
	if err := gofakes3.ValidateBucketName(name); err != nil {
		return fmt.Errorf("s3test: bucket %q: %w", name, err)
	}
	if err := s.store.CreateBucket(background(), name); err != nil {
		return fmt.Errorf("s3test: bucket %q: %w", name, err)
	}
	return nil
}

// Store puts an object there, past faults and credentials, replacing one of the same key. It has no checksum of its own.
func (s *Server) Store(bucket, key string, content []byte) error {
	meta := map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)}
	_, err := s.store.PutObject(background(), bucket, key, meta, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return fmt.Errorf("s3test: store %q in %q: %w", key, bucket, err)
	}
	return nil
}

// Object returns the stored bytes of an object, past faults and credentials; false if there is no such object. The bytes
// are the caller's own.
func (s *Server) Object(bucket, key string) ([]byte, bool) {
	object, err := s.store.GetObject(background(), bucket, key, nil)
	if err != nil {
		return nil, false
	}
	content, err := io.ReadAll(object.Contents)
	return content, errors.Join(err, object.Contents.Close()) == nil
}

// Keys returns the keys in a bucket in order; none if there is no such bucket.
func (s *Server) Keys(bucket string) []string {
	list, err := s.store.ListBucket(background(), bucket, nil, gofakes3.ListBucketPage{})
	if err != nil {
		return nil
	}
	keys := make([]string, 0, len(list.Contents))
	for _, object := range list.Contents {
		keys = append(keys, object.Key)
	}
	return keys
}

// Upload is a multipart upload that was neither completed nor aborted.
type Upload struct {
	Bucket string `xml:"-"`
	Key    string
	ID     string `xml:"UploadId"`
}

// Uploads returns the pending multipart uploads of all buckets, at most 1,000 of each. A good client leaves none, but one
// whose CreateMultipartUpload lost its answer can't know of it.
func (s *Server) Uploads() []Upload {
	buckets, _ := s.store.ListBuckets(background()) // the memory backend has no error to give
	var all []Upload
	for _, bucket := range buckets {
		r, err := http.NewRequestWithContext(background(), http.MethodGet, "/"+url.PathEscape(bucket.Name)+"?uploads", nil)
		if err != nil {
			continue // not for a name that was accepted
		}
		var out memo
		s.s3.ServeHTTP(&out, r)
		var list struct{ Upload []Upload }
		if err := xml.Unmarshal(out.body.Bytes(), &list); err != nil {
			continue // the same
		}
		for _, upload := range list.Upload {
			upload.Bucket = bucket.Name
			all = append(all, upload)
		}
	}
	return all
}

// background is for the memory backend, which takes a context and never looks at it.
func background() context.Context {
	return context.Background() //nolint:forbidigo // see above
}
