package s3test

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"github.com/rclone/gofakes3/signature"
)

// drainTime limits how long the server reads the body of a request whose response is already decided.
const drainTime = 10 * time.Second

// errCut is the S3 handler's error for the rest of a response that is cut.
var errCut = errors.New("s3test: the response is cut")

// serve handles a request: record it, decide on a fault, carry the decision out.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(int)
	record := s.journal.begin(r, conn)
	fault := record.Fault
	a := &response{ResponseWriter: w, fault: fault, started: func(status int) { s.journal.responded(record, status) }}
	switch fault.Kind {
	case Error:
		s.refuse(a, r)
	case Drop:
		s.drop(a, r)
	default:
		if fault.Kind != Stall {
			s.wait(r, fault.Delay)
		}
		s.pass(a, r)
	}
}

// pass lets S3 respond. A request body that S3 did not read to its end is drained, so that the response arrives.
func (s *Server) pass(a *response, r *http.Request) {
	s.authorized(a, r)
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.cut {
		s.read(a, r)
		return
	}
	_ = http.NewResponseController(a.ResponseWriter).Flush()
	if a.fault.Kind == Stall {
		s.wait(r, cmp.Or(a.fault.Delay, -1))
	}
	hangUp(a.ResponseWriter, a.fault.RST)
}

// refuse responds with an error of S3's form.
func (s *Server) refuse(a *response, r *http.Request) {
	f := a.fault
	if f.Applied {
		s.authorized(new(recorder), r)
	} else {
		s.read(a, r)
	}
	s.wait(r, f.Delay)
	if f.RetryAfter > 0 {
		seconds := (f.RetryAfter + time.Second - 1) / time.Second
		a.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	a.Header().Set("Content-Type", "application/xml")
	a.WriteHeader(f.status())
	type fault struct {
		XMLName struct{} `xml:"Error"`
		Code    string
		Message string
	}
	_, _ = io.WriteString(a, xml.Header)
	_ = xml.NewEncoder(a).Encode(fault{Code: f.code(), Message: "s3test: an injected fault"})
}

// drop ends the connection without a response.
func (s *Server) drop(a *response, r *http.Request) {
	f := a.fault
	switch {
	case f.Applied:
		s.authorized(new(recorder), r)
	case f.Bytes > 0 || f.Share > 0:
		_, _ = io.CopyN(io.Discard, r.Body, f.passes(r.ContentLength))
	case !f.RST:
		s.read(a, r) // closing with unread bytes would be a reset
	}
	s.wait(r, f.Delay)
	hangUp(a.ResponseWriter, f.RST)
}

// forward sends requests to the upstream unchanged: the header Host is signed.
func forward(upstream *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = upstream.Scheme, upstream.Host },
		Transport: &http.Transport{DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0), // the client gets a 502
	}
}

// authorized is S3 behind its signature check, or the upstream, which has its own.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) {
	if s.upstream != nil {
		defer func() {
			if a, ok := w.(*response); ok && a.cut {
				_ = recover() // how the proxy ends a response that it could not write
			}
		}()
		s.upstream.ServeHTTP(w, r)
		return
	}
	code := signature.V4SignVerifyWithLookup(r, func(accessKey string) (string, bool) {
		return s.SecretKey, accessKey == s.AccessKey
	})
	if code != signature.ErrNone {
		refusal := signature.GetAPIError(code)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(refusal.HTTPStatusCode)
		_, _ = w.Write(signature.EncodeAPIErrorToResponse(refusal))
		return
	}
	forget(r.Header)
	r.Body = verified(r, w.Header())
	s.s3.ServeHTTP(w, claimed(r))
}

// forget removes the customer's keys from a request: the S3 handler would refuse the request.
func forget(h http.Header) {
	for _, of := range []string{"X-Amz-", "X-Amz-Copy-Source-"} {
		for _, field := range []string{"Algorithm", "Key", "Key-Md5"} {
			h.Del(of + "Server-Side-Encryption-Customer-" + field)
		}
	}
}

// read reads the rest of the request's body, within limits: a response and a close while the client still sends can
// reach the client as a connection reset.
func (s *Server) read(a *response, r *http.Request) {
	if s.drain < 0 {
		return
	}
	control := http.NewResponseController(a.ResponseWriter)
	_ = control.SetReadDeadline(time.Now().Add(drainTime))
	_, err := io.CopyN(io.Discard, r.Body, s.drain)
	if errors.Is(err, io.EOF) {
		_ = control.SetReadDeadline(time.Time{})
	}
}

// wait returns after d (negative: never), or when the client leaves or the server closes.
func (s *Server) wait(r *http.Request, d time.Duration) {
	if d == 0 {
		return
	}
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-r.Context().Done():
	case <-s.closing:
	}
}

// hangUp ends the connection, by a TCP reset or an orderly close.
func hangUp(w http.ResponseWriter, rst bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if rst {
		raw := conn
		if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
			raw = wrapped.NetConn()
		}
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			conn = tcp
		}
	}
	_ = conn.Close()
}

// A response reports its status before sending it, and ends its body early at a Cut or a Stall if it is a success.
type response struct {
	http.ResponseWriter

	fault   Fault
	started func(status int)
	status  int
	cuts    bool  // the body ends early
	left    int64 // the bytes that may still pass, if cuts
	cut     bool  // the body has ended early
}

func (a *response) WriteHeader(status int) {
	if status < http.StatusOK { // such as 100 Continue of an upstream: the response follows
		a.ResponseWriter.WriteHeader(status)
		return
	}
	if a.status != 0 {
		return
	}
	a.status = status
	if status >= http.StatusBadRequest {
		for name := range checksums() {
			a.Header().Del(checksumHeader + name) // of a success
		}
	}
	length, err := strconv.ParseInt(a.Header().Get("Content-Length"), 10, 64)
	if err != nil {
		length = -1
	}
	a.cuts = (a.fault.Kind == Cut || a.fault.Kind == Stall) && status < http.StatusMultipleChoices
	a.left = a.fault.passes(length)
	a.started(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *response) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	switch {
	case a.cut:
		return 0, errCut
	case !a.cuts:
		return a.ResponseWriter.Write(p)
	case int64(len(p)) > a.left:
		a.cut = true
		p = p[:a.left]
	}
	n, err := a.ResponseWriter.Write(p)
	a.left -= int64(n)
	if a.cut && err == nil {
		err = errCut
	}
	return n, err
}

// A recorder keeps a response that is not sent to a client.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *recorder) Header() http.Header {
	if m.header == nil {
		m.header = make(http.Header)
	}
	return m.header
}

func (m *recorder) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
}

func (m *recorder) Write(p []byte) (int, error) { return m.body.Write(p) }
