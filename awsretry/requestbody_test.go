package awsretry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// A lateWriter is a connection whose Write of a body returns only after the response has begun to be read.
type lateWriter struct {
	net.Conn
	reading chan struct{}
}

func (c lateWriter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if bytes.Contains(p, []byte("Action=")) {
		<-c.reading
	}
	return n, err
}

// A firstRead calls first before the body is read.
type firstRead struct {
	io.ReadCloser
	first func()
}

func (r *firstRead) Read(p []byte) (int, error) {
	if r.first != nil {
		r.first()
		r.first = nil
	}
	return r.ReadCloser.Read(p)
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// The SDK closes the request body when the response arrives. If net/http had not yet read to the body's end, the
// connection used to be closed while the response was read: "use of closed network connection", and one more attempt.
func TestBodyThatIsClosedEarlyBreaksNoConnection(t *testing.T) {
	server := startHostile(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>")
	})
	reading, wrote := make(chan struct{}), make(chan error, 1)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return lateWriter{conn, reading}, err
	}}
	defer transport.CloseIdleConnections()
	p := observed(t)
	cfg := configure(server.URL, &p)
	cfg.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		res, err := transport.RoundTrip(r)
		if err == nil {
			res.Body = &firstRead{res.Body, func() {
				close(reading)
				if err := <-wrote; err != nil {
					t.Errorf("net/http closes the connection: %v", err)
				}
			}}
		}
		return res, err
	})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { wrote <- info.Err },
	})
	_, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || server.requests.Load() != 1 {
		t.Errorf("%v after %d requests, want none after one", err, server.requests.Load())
	}
}
