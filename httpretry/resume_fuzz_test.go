package httpretry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// An ill is what goes wrong with one response.
type ill struct {
	kind byte // one of the kinds below
	at   int  // byte of the response's body at which it is cut
}

const (
	illCut     = iota // the correct response, cut
	illChunked        // the same, chunked, cut before its last byte
	illIgnored        // the whole although a part was asked for, cut
	illBusy           // a 503
	illChanged        // from now on the resource has changed
	illWrong          // a part that starts one byte too late
	illReset          // no response
	kinds
)

const seconds = 3 // attempts of the policy of these rows

// illsOf makes a schedule from the bytes of the fuzzer.
func illsOf(data []byte) (size int, ills []ill) {
	if len(data) == 0 {
		return 1, nil
	}
	size = 1 + int(data[0]%64)
	for data = data[1:]; len(data) >= 2 && len(ills) < 40; data = data[2:] {
		ills = append(ills, ill{data[0] % kinds, int(data[1]) % (size + 1)})
	}
	return size, ills
}

// A naive resumer is the oracle: the same rules, on a schedule instead of a network.
type naive struct {
	size, read int
	fails      int // responses in a row without a new byte
	err        error
}

// receive processes one response; the first is to a request for the whole resource.
func (s *naive) receive(i ill, first bool) {
	brought := 0
	at := i.at
	switch i.kind {
	case illChanged:
		if !first {
			s.err = httpretry.ErrChanged
			return
		}
		brought = s.size // the first response has the only resource
	case illWrong:
		if first || s.read == 0 { // no part was asked for
			brought = s.size
			break
		}
		s.err = httpretry.ErrWrongRange
		return
	case illChunked:
		at = min(at, s.size-s.read-1)
		brought = max(at, 0)
	case illCut:
		brought = min(at, s.size-s.read)
	case illIgnored:
		brought = max(at-s.read, 0)
	}
	s.read += brought
	s.fails++
	if brought > 0 {
		s.fails = 0
	}
	if s.fails == seconds {
		s.err = retry.ErrExhausted
	}
}

// run returns how many bytes the caller gets, and the error.
func (s *naive) run(ills []ill) (int, error) {
	for n, i := range ills {
		if n == 0 && (i.kind == illBusy || i.kind == illReset) {
			i = ill{kind: illCut, at: 0} // the resumer does not make the first request
		}
		if s.receive(i, n == 0); s.err != nil || s.read == s.size {
			return s.read, s.err
		}
		if n == 0 {
			s.fails = 0 // the first response's break begins the resumption
		}
	}
	return s.size, nil // then all goes well
}

// script plays the schedule.
func play(e, other httptestfault.Resource, ills []ill) httptestfault.Script {
	return func(n int, r *http.Request) httptestfault.Response {
		if n > len(ills) {
			return e.Respond(r)
		}
		i := ills[n-1]
		if n == 1 && (i.kind == illBusy || i.kind == illReset) {
			i = ill{kind: illCut, at: 0}
		}
		if i.kind == illChanged && n > 1 {
			e = other
		}
		step := e.Respond(r)
		switch i.kind {
		case illCut:
			return step.With(httptestfault.CutBody(i.at))
		case illChunked:
			step.Framing = httptestfault.Chunked
			step.Header.Del("Content-Length")
			return step.With(httptestfault.CutBody(max(min(i.at, len(step.Body)-1), 0)))
		case illIgnored:
			return httptestfault.Response{Header: http.Header{"Etag": {e.ETag}}, Body: e.Body}.With(httptestfault.CutBody(i.at))
		case illBusy:
			return httptestfault.Response{Status: 503}
		case illWrong:
			if step.Status == 206 {
				from := len(e.Body) - len(step.Body) + 1
				step.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(e.Body), len(e.Body)+1))
			}
		case illReset:
			return step.With(httptestfault.Hangup())
		}
		return step
	}
}

func FuzzResume(f *testing.F) {
	f.Add([]byte{20, illCut, 7, illCut, 3})
	f.Add([]byte{20, illCut, 7, illBusy, 0, illBusy, 0, illBusy, 0})
	f.Add([]byte{20, illCut, 0, illReset, 0, illIgnored, 5, illIgnored, 3, illIgnored, 21})
	f.Add([]byte{20, illChunked, 7, illChunked, 0, illChanged, 0})
	f.Add([]byte{20, illCut, 7, illWrong, 0})
	f.Add([]byte{0, illCut, 0, illCut, 0, illCut, 0, illCut, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		size, ills := illsOf(data)
		body := make([]byte, size)
		for n := range body {
			body[n] = byte('A' + n%50)
		}
		e := httptestfault.Resource{Body: body, ETag: `"1"`}
		other := httptestfault.Resource{Body: bytes.ToLower(body), ETag: `"2"`}
		server := httptestfault.NewInMemory(play(e, other, ills))
		defer server.Close()
		base := server.Transport()
		base.DisableKeepAlives = true // or net/http repeats requests by itself
		policy := quick()
		policy.MaxAttempts, policy.BaseDelay, policy.MaxDelay = seconds, time.Microsecond, time.Microsecond
		got, _, err := download(t, httpretry.NewTransport(base, httpretry.Options{Policy: policy, OnResume: func(httpretry.Resumption) {}}), server.URL)

		twin := naive{size: size}
		n, want := twin.run(ills)
		if len(got) != n || !bytes.Equal(got, body[:min(n, size)]) || !errors.Is(err, want) {
			t.Errorf("size %d, ills %v: %d bytes, %v; the twin has %d, %v", size, ills, len(got), err, n, want)
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("%v would pass for the end of the body", err)
		}
	})
}
