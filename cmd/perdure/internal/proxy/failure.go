package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/internal/breakers"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Failure is a response of the proxy's own.
type Failure struct {
	Status    int       `json:"status"`
	Code      string    `json:"error"` // one word
	Message   string    `json:"message"`
	RetryAt   time.Time `json:"retry_at,omitzero"`
	Attempts  int       `json:"attempts"`
	Ambiguous bool      `json:"ambiguous,omitempty"` // the request may have been processed
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

// RetryAfter returns the seconds until RetryAt, rounded up; 0 means that no instant is known.
func (f *Failure) RetryAfter() int {
	if f.RetryAt.IsZero() {
		return 0
	}
	return max(1, int(math.Ceil(time.Until(f.RetryAt).Seconds())))
}

// failed writes the response to a request that has none.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	if r.Context().Err() != nil { // the client has gone
		p.counts.canceled.Add(1)
		panic(http.ErrAbortHandler)
	}
	f := failureOf(err)
	if x != nil {
		f.Attempts = int(x.attempts.Load())
		f.Ambiguous = f.Ambiguous || x.unsure.Load() > 0
		switch {
		case f.Code == "upstream_failed" && x.unread.Load():
			f.Status, f.Code, f.Ambiguous = http.StatusBadRequest, "bad_body", false
		case f.Code == "not_now" && f.Ambiguous: // no refusal: the request may have been processed
			f.Status, f.Code = http.StatusBadGateway, "upstream_failed"
		}
		p.count(x, f.Status)
	}
	p.write(w, r, f)
}

// failureOf returns the Failure for an error.
func failureOf(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		own := *f
		return &own
	}
	f := &Failure{Status: http.StatusBadGateway, Code: "upstream_failed", Message: redact.Line(redact.Message(err.Error())), RetryAt: exit.RetryAt(err)}
	_, refused := breakers.Refusal(err)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case refused, errors.Is(err, retry.ErrBudget):
		f.Status, f.Code = http.StatusServiceUnavailable, "not_now"
		if f.RetryAt.IsZero() {
			f.RetryAt = time.Now().Add(time.Second)
		}
	case errors.Is(err, retry.ErrRetryLater):
		f.Status, f.Code = http.StatusServiceUnavailable, "retry_later"
	case errors.Is(err, retry.ErrDeadline), errors.Is(err, context.DeadlineExceeded):
		f.Status, f.Code = http.StatusGatewayTimeout, "timeout"
	case tooLarge:
		f.Status, f.Code = http.StatusRequestEntityTooLarge, "too_large"
	}
	return f
}

// write writes a Failure.
func (p *Proxy) write(w http.ResponseWriter, r *http.Request, f *Failure) {
	h := w.Header()
	h.Set(HeaderAttempts, strconv.Itoa(f.Attempts))
	if f.Ambiguous {
		h.Set(HeaderAmbiguous, "true")
	}
	if after := f.RetryAfter(); after > 0 {
		h.Set("Retry-After", strconv.Itoa(after))
	}
	h.Set("Cache-Control", "no-store")
	if p.config.WriteFailure != nil {
		p.config.WriteFailure(w, r, f)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(f) // an error: the client has gone
}
