// Package wire is the HTTP client for S3, with options for its operations.
package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/seed-0f2c7998/perdure/internal/bound"
	"github.com/seed-0f2c7998/perdure/internal/stall"
)

// Tune returns a client for S3 with the proxy and the certificates of own, if own is nil or the SDK's client; any
// other client is returned as it is.
func Tune(own s3.HTTPClient, stall time.Duration) s3.HTTPClient {
	built, ok := own.(*awshttp.BuildableClient)
	if !ok && own != nil {
		return own
	}
	if built == nil {
		built = awshttp.NewBuildableClient()
	}
	given := built.GetTransport()

	// HTTP/1.1 only. Over HTTP/2 the SDK took successful uploads to some stores for
	// failed, and all parts share the congestion window of one connection. A
	// Transport that was made for HTTP/2 keeps offering it, so this is a new one.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	buffers := &sync.Pool{New: func() any { return new([bufferSize]byte) }}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		Protocols:              &protocols,
		Proxy:                  given.Proxy,
		OnProxyConnectResponse: given.OnProxyConnectResponse,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute, // completing a multipart upload may take long
		IdleConnTimeout:        60 * time.Second,
		MaxIdleConnsPerHost:    64,

		MaxResponseHeaderBytes: bound.Header,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &writeLimit{Conn: conn, limit: stall, buffers: buffers}, nil
		},
	}
	if given.TLSClientConfig != nil {
		t.TLSClientConfig = given.TLSClientConfig.Clone()
		t.TLSClientConfig.NextProtos = nil
	}
	return client{t}
}

// A client is a transport without the redirects of http.Client: the signature would be invalid for the other host,
// and S3 often does not name it.
type client struct{ transport *http.Transport }

func (c client) Do(r *http.Request) (*http.Response, error) { return c.transport.RoundTrip(r) }

// A writeLimit is a connection that breaks if the other side does not accept written bytes within the limit.
type writeLimit struct {
	net.Conn

	limit   time.Duration
	buffers *sync.Pool // of *[bufferSize]byte
}

func (c *writeLimit) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// ReadFrom is called by net/http to send a body. Without it net/http would write 32 KiB at a time, with a system call
// each.
func (c *writeLimit) ReadFrom(r io.Reader) (int64, error) {
	buffer, _ := c.buffers.Get().(*[bufferSize]byte)
	defer c.buffers.Put(buffer)
	return io.CopyBuffer(onlyWriter{c}, r, buffer[:])
}

// bufferSize is the size of one write in bytes.
const bufferSize = 256 << 10

// An onlyWriter hides ReadFrom.
type onlyWriter struct{ io.Writer }

// Payload is an option of an operation whose body has this SHA-256, in hex, so that no attempt reads the body for its
// signature. If sha is "", the body is not signed: TLS and a checksum protect it.
func Payload(sha string) func(*s3.Options) {
	const compute = "ComputePayloadHash"
	set := middleware.FinalizeMiddlewareFunc("perdure:PayloadHash", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		return next.HandleFinalize(v4.SetPayloadHash(ctx, cmp.Or(sha, "UNSIGNED-PAYLOAD")), in)
	})
	return func(o *s3.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
			if _, ok := stack.Finalize.Get(compute); !ok {
				return nil // the signature does not cover the body
			}
			return stack.Finalize.Insert(set, compute, middleware.Before)
		})
	}
}

// ErrStalled reports that a connection delivered nothing, or too little, for too long.
var ErrStalled = errors.New("the connection has stalled")

// Limited returns the body of a response with limits. A body that misses them is closed, and its error wraps
// ErrStalled. end is called when the body is closed or stalls.
func Limited(body io.ReadCloser, l stall.Limits, end context.CancelFunc) io.ReadCloser {
	return limited{stall.NewReader(body, l, end)}
}

type limited struct{ io.ReadCloser }

func (l limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if e, ok := errors.AsType[*stall.Error](err); ok {
		err = fmt.Errorf("%w: %w", ErrStalled, e)
	}
	return n, err
}
