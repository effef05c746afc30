package clienttest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The server says at the handshake, or with TLS 1.3 after it, that it wants a certificate of the client. It will say so
// each time.
func TestRefusedClientCertificateIsOneAttempt(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, call := range operations {
			if name == "GetMetadata" {
				continue // which does without its token then
			}
			t.Run(fmt.Sprintf("%s, %s", name, tls.VersionName(version)), func(t *testing.T) {
				var handshakes atomic.Int64
				server := httptest.NewUnstartedServer(http.NotFoundHandler())
				server.EnableHTTP2 = true
				server.TLS = &tls.Config{
					MinVersion: version, MaxVersion: version, ClientAuth: tls.RequireAndVerifyClientCert,
					GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
						handshakes.Add(1)
						return nil, nil
					},
				}
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				server.StartTLS()
				t.Cleanup(server.Close)
				p := quick(t)
				p.Observe = func(_ context.Context, e retry.Event) {
					if op, ok := errors.AsType[*net.OpError](e.Err); e.Kind == retry.Retrying && ok && op.Op == "remote error" {
						t.Errorf("retried after %v", e.Err)
					}
				}
				if name == "StartStreamTranscription" && version == tls.VersionTLS13 {
					p.AttemptTimeout = 200 * time.Millisecond // the SDK may wait for its own stream, without end
				}
				cfg := configure(server)
				awsretry.Apply(&cfg, &p)
				err := call(t.Context(), cfg)
				// With TLS 1.3 a reset of the connection may overtake what the server says.
				if err == nil || version == tls.VersionTLS12 && handshakes.Load() != 1 {
					t.Errorf("%v after %d connections, want an error after one", err, handshakes.Load())
				}
			})
		}
	}
}
