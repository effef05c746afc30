// Package s3 makes a proxy speak S3: it checks the signatures of clients, which sign with a key of the proxy, and signs
// each attempt with the credentials of the environment. The store's credentials never reach a client.
//
// The files in the order of a request: admit.go takes it apart; verify.go has the clients' key, and checks the signature;
// payload.go checks the body, and decodes the aws-chunked forms; sign.go signs an attempt, and encodes its body; response.go
// reads what the store's errors mean; settle.go corrects a response to a repeated request; s3.go writes the proxy's own responses.
package s3

import (
	"context"
	"encoding/xml"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/proxy"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Config configures a Store.
type Config struct {
	Region      string                  // that the store's signatures are for
	Credentials aws.CredentialsProvider // of the store
	Key         Key                     // that clients must sign with; the zero Key admits every client
	Policy      *retry.Policy           // of requests that the Store makes by itself
}

// A Store is an upstream that speaks S3. It is safe for concurrent use.
type Store struct {
	config Config
	base   http.RoundTripper
	signer *v4.Signer
	looks  *httpretry.Transport // of requests that look at an object
	skew   atomic.Int64         // what the store's clock is ahead of ours, in nanoseconds
}

// Apply makes the proxy of c speak S3. Base of c is used for all attempts.
func Apply(c *proxy.Config, o Config) {
	s := &Store{config: o, base: c.Base, signer: v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })}
	if s.base == nil {
		s.base = proxy.NewBase()
	}
	s.looks = httpretry.NewTransport(s, httpretry.Options{Policy: o.Policy, NoResume: true})
	c.Base, c.Admit, c.Classify, c.Settle, c.WriteFailure = s, s.admit, classify, s.settle, writeFailure
}

// CloseIdleConnections closes the idle connections of the base.
func (s *Store) CloseIdleConnections() {
	if base, ok := s.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// now returns the time of the store's clock.
func (s *Store) now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }

// A call is a request of a client with all its attempts.
type call struct {
	operation string // the S3 operation
	payload   string // X-Amz-Content-Sha256 of each attempt
	length    int64  // of the decoded body
	trailer   string // the name of the trailer field with the checksum of the body; "" means none
	checksum  atomic.Pointer[string]
	writeID   string // of a conditional put
	whole     string // the ETag that a CompleteMultipartUpload gives the object; "" means unknown

	refused atomic.Pointer[proxy.Failure] // of the body
	class   atomic.Uint32                 // a retry.Class, of the last response
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// classify returns the class of a response.
func classify(res *http.Response) retry.Class {
	if c := callOf(res.Request.Context()); c != nil {
		return retry.Class(c.class.Load()) //nolint:gosec // it was one
	}
	return retry.ClassUnknown
}

// writeFailure writes a response of the proxy's own in the form of S3.
func writeFailure(w http.ResponseWriter, r *http.Request, f *proxy.Failure) {
	own := *f
	if c := callOf(r.Context()); c != nil && c.refused.Load() != nil { // whatever became of the attempt
		own = *c.refused.Load()
		w.Header().Del("Retry-After")
		w.Header().Del(proxy.HeaderAmbiguous)
	}
	switch own.Code {
	case "not_now", "retry_later":
		own.Code = "SlowDown"
	case "timeout":
		own.Code = "RequestTimeout"
	case "too_large":
		own.Code = "EntityTooLarge"
	case "not_this_host":
		own.Code = "AccessDenied"
		own.Message += ". Clients must use path-style addressing: the bucket in the path, not in the host name (in boto3, Config(s3={'addressing_style': 'path'}))"
	case "web_page":
		own.Code = "AccessDenied"
	case "bad_body":
		own.Code = "IncompleteBody"
	case "upstream_failed":
		own.Code = "InternalError"
	}
	type document struct {
		XMLName  struct{} `xml:"Error"`
		Code     string
		Message  string
		Resource string
	}
	text, err := xml.Marshal(document{Code: own.Code, Message: own.Message, Resource: r.URL.Path})
	if err != nil {
		text = nil
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		w.WriteHeader(own.Status)
		return
	}
	text = append([]byte(xml.Header), text...)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(own.Status)
	_, _ = w.Write(text) // an error: the client has gone
}
