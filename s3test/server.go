// Package s3test is an S3 server inside your test, with scripted or seeded faults in front of it.
//
// The server speaks real HTTP on 127.0.0.1, checks signatures (SigV4) and checksums, supports multipart uploads, ranges and
// conditional writes, and records the requests. So code that retries is tested with its production client and protocol:
//
//	server := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
//	server.SetScript(s3test.Rules(s3test.Rule{Method: "PUT", Nth: []int{1, 2}, Fault: s3test.SlowDown()}))
//	// ... upload with the AWS SDK to server.URL ...
//	if got := server.Count("PUT", "/bikes/"); got != 3 { ... }
//
// Faults come from a [Script] ([Server.SetScript], [Rules]), which decides on each request, or from a seed
// ([Faults], [TypicalFaults]), or both. The terms are those of the HTTP server httpretry/httptestfault.
//
// Limits: objects and unfinished uploads are in memory until they are deleted or the server closes; the server never
// writes to disk (a part takes its size twice for a moment, completing a multipart upload three times). The ETag of a
// multipart object is the MD5 of its bytes, without S3's "-N", and its parts cannot be read by number: [Server.StoreParts] stores
// objects that have both. Parts may be smaller than 5 MiB. Regions, ACLs and policies
// are not checked. Customer keys (SSE-C) are neither used nor compared: they are in the headers of [Server.Requests].
// The S3 behind the faults is github.com/rclone/gofakes3.
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

// Options configure a Server. The zero Options give a server without buckets or faults.
type Options struct {
	AccessKey string   // at least 3 characters; "" means "s3test"
	SecretKey string   // "" means "s3test-secret"
	Buckets   []string // created before the first request

	Script Script // see [Server.SetScript]
	Faults Faults // see [Server.SetFaults]

	// Upstream, if set, is the URL of another S3 server, which serves the requests behind the faults. AccessKey and
	// SecretKey are its credentials then, Buckets must be empty, and Store, Object, Keys, Uploads and CreateBucket do not
	// see its objects.
	Upstream string

	// Drain is how many bytes of a request's body are read, for at most 10 s, if the response is decided before the body's
	// end (a fault, a missing bucket). After a longer body the connection is closed, which the client may see as a reset.
	// 0 means 1 GiB; less than 0 means none, so that an early response meets a client that is still sending.
	Drain int64

	TLS *tls.Config // with a certificate: serve https (HTTP/1.1 only); nil means http
}

// A Server is a running S3 server. Make it with [New] or [Start]; the zero value is not usable. All methods may be called at
// any time by any goroutine. Only Close waits for the network. Do not change the fields.
type Server struct {
	URL       string // the endpoint, as "http://127.0.0.1:40001"; clients must use path-style addressing
	AccessKey string // the credentials that the server accepts
	SecretKey string

	drain    int64
	store    *store
	s3       http.Handler
	http     http.Server
	upstream *httputil.ReverseProxy // in place of s3; nil without Options.Upstream
	served   chan struct{}          // closed when the listener's loop has ended
	closing  chan struct{}          // closed by Close
	once     sync.Once
	journal  journal
}

// connKey is the context key of a connection's number.
type connKey struct{}

// New starts a server on a free port of 127.0.0.1; call Close when done. If an option is invalid, New returns an error that
// names the field; New also returns an error if there is no free port.
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
	s.s3 = &parts{Handler: &tags{gofakes3.New(s.store).Server(), s.store}}
	if o.Upstream != "" {
		upstream, err := url.Parse(o.Upstream)
		if err != nil || upstream.Host == "" || len(o.Buckets) > 0 {
			return nil, fmt.Errorf("s3test: Options.Upstream is %q with %d Buckets, want a URL and none", o.Upstream, len(o.Buckets))
		}
		s.upstream = forward(upstream)
	}
	s.SetScript(o.Script)
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

// TB is what Start needs of testing.TB.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start is New for tests: an error ends the test, and the end of the test closes the server.
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
	s.URL = "http://" + listener.Addr().String()
	if config != nil {
		listener = tls.NewListener(listener, config)
		s.URL = "https://" + listener.Addr().String()
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

// Close stops the server at once: requests in flight lose their connection. Object still returns objects afterwards.
// A second Close does nothing.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.closing)
		_ = s.http.Close()
	})
	<-s.served
}

// CreateBucket creates a bucket, without a request: no fault happens and no credentials are needed. If the bucket exists, or
// S3 forbids the name, CreateBucket returns an error.
func (s *Server) CreateBucket(name string) error {
	if err := gofakes3.ValidateBucketName(name); err != nil {
		return fmt.Errorf("s3test: bucket %q: %w", name, err)
	}
	if err := s.store.CreateBucket(background(), name); err != nil {
		return fmt.Errorf("s3test: bucket %q: %w", name, err)
	}
	return nil
}

// Store writes an object, without a request, in place of any object with the same key. The object has no checksum. If the
// bucket does not exist, Store returns an error.
func (s *Server) Store(bucket, key string, content []byte) error {
	meta := map[string]string{"Last-Modified": time.Now().UTC().Format(http.TimeFormat)}
	_, err := s.store.PutObject(background(), bucket, key, meta, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return fmt.Errorf("s3test: store %q in %q: %w", key, bucket, err)
	}
	return nil
}

// Object returns a copy of an object's bytes, without a request, or false if the object does not exist.
func (s *Server) Object(bucket, key string) ([]byte, bool) {
	object, err := s.store.GetObject(background(), bucket, key, nil)
	if err != nil {
		return nil, false
	}
	content, err := io.ReadAll(object.Contents)
	return content, errors.Join(err, object.Contents.Close()) == nil
}

// Keys returns the keys in a bucket in lexical order, or nil if the bucket does not exist.
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

// An Upload is a multipart upload that is neither completed nor aborted.
type Upload struct {
	Bucket string `xml:"-"`
	Key    string
	ID     string `xml:"UploadId"`
}

// Uploads returns the pending multipart uploads of all buckets, at most 1,000 of each. A correct client leaves only those
// whose CreateMultipartUpload lost its response.
func (s *Server) Uploads() []Upload {
	buckets, _ := s.store.ListBuckets(background()) // the memory backend has no error to give
	var all []Upload
	for _, bucket := range buckets {
		r, err := http.NewRequestWithContext(background(), http.MethodGet, "/"+url.PathEscape(bucket.Name)+"?uploads", nil)
		if err != nil {
			continue // not for a name that was accepted
		}
		var out recorder
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

// background is for the memory backend, which ignores its context.
func background() context.Context {
	return context.Background() //nolint:forbidigo // see above
}
