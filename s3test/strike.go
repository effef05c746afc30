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

// drainTime bounds how long a request that is already refused may go on sending its body.
const drainTime = 10 * time.Second

// errStruck tells the S3 handler that the rest of its answer will not be sent.
var errStruck = errors.New("s3test: the answer was cut")

// serve is the whole way of a request: number it, decide, carry the decision out.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(int)
	record := s.journal.begin(r, conn)
	fault := record.Fault
	a := &answer{ResponseWriter: w, fault: fault, started: func(status int) { s.journal.answered(record, status) }}
	switch fault.Kind {
	case Answer:
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

// pass lets S3 answer. A body that S3 did not read to its end is drained, so that its answer arrives.
func (s *Server) pass(a *answer, r *http.Request) {
	s.authorized(a, r)
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.struck {
		s.read(a, r)
		return
	}
	_ = http.NewResponseController(a.ResponseWriter).Flush()
	if a.fault.Kind == Stall {
		s.wait(r, cmp.Or(a.fault.Delay, -1))
	}
	hangUp(a.ResponseWriter, a.fault.RST)
}

// refuse answers with an error of S3's form.
func (s *Server) refuse(a *answer, r *http.Request) {
	f := a.fault
	if f.Applied {
		s.authorized(new(memo), r)
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
	_ = xml.NewEncoder(a).Encode(fault{Code: f.code(), Message: "s3test: this fault was asked for"})
}

// drop ends the connection without an answer.
func (s *Server) drop(a *answer, r *http.Request) {
	f := a.fault
	switch {
	case f.Applied:
		s.authorized(new(memo), r)
	case f.Bytes > 0 || f.Share > 0:
		_, _ = io.CopyN(io.Discard, r.Body, f.strikeAt(r.ContentLength))
	case !f.RST:
		s.read(a, r) // closing with unread bytes would be a reset
	}
	s.wait(r, f.Delay)
	hangUp(a.ResponseWriter, f.RST)
}

// forward passes requests on as they are: the header Host is signed.
func forward(upstream *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = upstream.Scheme, upstream.Host },
		Transport: &http.Transport{DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0), // the client has it as 502
	}
}

// authorized is S3 behind its signature check, or the other server, which has its own.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) {
	if s.upstream != nil {
		defer func() {
			if a, ok := w.(*answer); ok && a.struck {
				_ = recover() // the proxy's way to end an answer that it could not write
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

// forget takes the customer's keys from a request: the S3 handler would refuse it.
func forget(h http.Header) {
	for _, of := range []string{"X-Amz-", "X-Amz-Copy-Source-"} {
		for _, field := range []string{"Algorithm", "Key", "Key-Md5"} {
			h.Del(of + "Server-Side-Encryption-Customer-" + field)
		}
	}
}

// read takes in what is left of the request's body, within bounds, so that the client is done sending when its answer
// comes: answering and closing while it sends can turn the answer into a connection reset.
func (s *Server) read(a *answer, r *http.Request) {
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

// wait returns when the time is over (negative: never), the client has gone or the server closes.
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

// hangUp ends the connection now, by a TCP reset or in order.
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

// answer reports its status before it goes out, and ends its body early if a Cut or a Stall says so and it is a success.
type answer struct {
	http.ResponseWriter

	fault   Fault
	started func(status int)
	status  int
	cuts    bool  // whether the body ends early
	left    int64 // bytes that may still pass, if cuts
	struck  bool
}

func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	a.status = status
	if status >= http.StatusBadRequest {
		for name := range checksums() {
			a.Header().Del(checksumHeader + name) // that of a success
		}
	}
	length, err := strconv.ParseInt(a.Header().Get("Content-Length"), 10, 64)
	if err != nil {
		length = -1
	}
	a.cuts = (a.fault.Kind == Cut || a.fault.Kind == Stall) && status < http.StatusMultipleChoices
	a.left = a.fault.strikeAt(length)
	a.started(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	switch {
	case a.struck:
		return 0, errStruck
	case !a.cuts:
		return a.ResponseWriter.Write(p)
	case int64(len(p)) > a.left:
		a.struck = true
		p = p[:a.left]
	}
	n, err := a.ResponseWriter.Write(p)
	a.left -= int64(n)
	if a.struck && err == nil {
		err = errStruck
	}
	return n, err
}

// memo is an answer that nobody gets, or only this package.
type memo struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *memo) Header() http.Header {
	if m.header == nil {
		m.header = make(http.Header)
	}
	return m.header
}

func (m *memo) WriteHeader(status int) {
	if m.status == 0 {
		m.status = status
	}
}

func (m *memo) Write(p []byte) (int, error) { return m.body.Write(p) }
