package retry_test

import (
	"context"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

const (
	transient = retry.ClassTransient
	throttled = retry.ClassThrottled
	conflict  = retry.ClassConflict
	permanent = retry.ClassPermanent
	ignored   = retry.ClassIgnored
	unknown   = retry.ClassUnknown
)

// classes fails the test unless every error has the class under p: bare,
// wrapped at some depth, and as the second one of errors.Join.
func classes(t *testing.T, p *retry.Policy, want retry.Class, errs ...error) {
	t.Helper()
	for _, err := range errs {
		for form, e := range map[string]error{
			"bare":    err,
			"wrapped": fmt.Errorf("a: %w", &url.Error{Op: "Get", URL: "http://x/", Err: fmt.Errorf("b: %w", err)}),
			"joined":  errors.Join(errDown, fmt.Errorf("c: %w", err)),
		} {
			if got, _ := p.ClassOf(e); got != want {
				t.Errorf("%s %T (%v): %v, want %v", form, err, err, got, want)
			}
		}
	}
}

// retries fails the test unless each error has the class under p, and Do makes two attempts of it or one.
func retries(t *testing.T, p *retry.Policy, retried bool, want retry.Class, errs ...error) {
	t.Helper()
	classes(t, p, want, errs...)
	for _, err := range errs {
		q := *p
		q.MaxAttempts, q.BaseDelay, q.Jitter = 2, 1, retry.NoJitter
		q.Observe = func(_ context.Context, e retry.Event) {
			if e.Class != want {
				t.Errorf("retry_on %q, ignore_on %q: the event of %v has class %v, want %v", p.RetryOn, p.IgnoreOn, err, e.Class, want)
			}
		}
		f, made := always(err)
		got := retry.Do(t.Context(), &q, f)
		if wanted := map[bool]int{false: 1, true: 2}[retried]; made.n != wanted || !errors.Is(got, err) {
			t.Errorf("retry_on %q, ignore_on %q: %d attempts of %v, want %d; %v", p.RetryOn, p.IgnoreOn, made.n, err, wanted, got)
		}
	}
}

// Real connections that fail: refused by a closed port, reset by the peer, cut in the
// middle, too slow.
func TestClassOfRealConnections(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for _, end := range []func(*net.TCPConn){
			func(c *net.TCPConn) { _ = c.SetLinger(0) },             // reset
			func(c *net.TCPConn) { _, _ = c.Write([]byte("half")) }, // cut
			func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) },  // silent until the other side hangs up
		} {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			end(c.(*net.TCPConn))
			c.Close()
		}
	}()
	read := func(address string, limit time.Duration) error {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 8))
		return err
	}
	address := listener.Addr().String()
	reset, cut, slow := read(address, time.Minute), read(address, time.Minute), read(address, time.Millisecond)
	<-served
	listener.Close()
	refused := read(servertest.ClosedPort(t), time.Minute)
	for want, err := range map[error]error{
		syscall.ECONNRESET: reset, io.ErrUnexpectedEOF: cut, os.ErrDeadlineExceeded: slow, syscall.ECONNREFUSED: refused,
	} {
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	classes(t, &retry.Policy{}, transient, reset, cut, slow, refused)
	retries(t, &retry.Policy{IgnoreOn: []string{"connection"}}, false, transient, reset, cut, refused)
	retries(t, &retry.Policy{IgnoreOn: []string{"timeout"}}, false, transient, slow)
	retries(t, &retry.Policy{IgnoreOn: []string{"timeout"}}, true, transient, reset, cut, refused)

	_, err = listener.Accept() // of a server that was shut down
	classes(t, &retry.Policy{}, unknown, err)
}

// The general rules, without any list, mark or classifier.
func TestClassOfGeneralErrors(t *testing.T) {
	t.Parallel()
	p := &retry.Policy{}
	op := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	classes(t, p, transient,
		op(syscall.ECONNREFUSED), op(os.NewSyscallError("read", syscall.ECONNRESET)), op(syscall.EPIPE),
		op(syscall.ECONNABORTED), op(net.ErrClosed), io.ErrUnexpectedEOF, context.DeadlineExceeded, os.ErrDeadlineExceeded,
		&net.DNSError{Err: "server misbehaving", IsTemporary: true},
		&net.DNSError{Err: "i/o timeout", IsTimeout: true},
	)
	classes(t, p, permanent,
		&net.DNSError{Err: "no such host", IsNotFound: true},
		&net.DNSError{Err: "no such host", IsNotFound: true, IsTemporary: true},
		&x509.UnknownAuthorityError{}, x509.HostnameError{},
	)
	classes(t, p, unknown, os.ErrNotExist, os.ErrPermission, errors.ErrUnsupported, syscall.ENOSPC, errDown)
	classes(t, p, ignored, context.Canceled, &circuit.OpenError{Name: "x", State: circuit.Open})
}

// No rule looks at an error's text.
func TestClassNotByText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"connection refused", "connection reset by peer", "i/o timeout", "unexpected EOF", "SlowDown", "503",
		"context deadline exceeded", "Throttling", "service unavailable", "timeout", "throttled", "connection",
	} {
		p := retry.Policy{RetryOn: []string{"timeout", "throttled", "connection", "conflict", "SlowDown", "503"}}
		retries(t, &p, false, unknown, errors.New(text))
	}
}

// Codes and statuses: the code takes precedence over the status.
func TestClassOfCodesAndStatuses(t *testing.T) {
	t.Parallel()
	p := &retry.Policy{}
	for want, codes := range map[retry.Class][]string{
		throttled: {
			"SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
			"RequestThrottledException", "RequestLimitExceeded", "TooManyRequestsException", "BandwidthLimitExceeded",
			"LimitExceededException", "ProvisionedThroughputExceededException", "PriorRequestNotComplete",
			"TransactionInProgressException", "EC2ThrottledException",
		},
		transient: {
			"InternalError", "InternalServerError", "InternalServerException", "InternalFailure", "ServiceUnavailable",
			"ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException", "503", "500", "408",
		},
		conflict: {"OperationAborted", "TransactionConflict", "TransactionConflictException"},
		permanent: {
			"AccessDenied", "AccessDeniedException", "NoSuchKey", "NoSuchBucket", "InvalidAccessKeyId", "404", "501",
			"ConditionalCheckFailed", "ConditionalCheckFailedException",
		},
		unknown: {"Unheard", "LimitExceeded", "serviceunavailable", "", "Exception", "Error", "200", "+50"},
	} {
		for _, code := range codes {
			classes(t, p, want, &coded{code: code})
		}
	}
	for status := 400; status < 600; status++ {
		want := permanent
		switch status {
		case 429:
			want = throttled
		case 408, 425:
			want = transient
		case 501, 505, 506, 510, 511:
		default:
			if status >= 500 {
				want = transient
			}
		}
		if got := retry.StatusClass(status); got != want {
			t.Errorf("status %d: %v, want %v", status, got, want)
		}
		classes(t, p, want, &coded{code: "Unheard", status: status})
	}
	for _, status := range []int{301, 304, 399, 600, 999} {
		if got := retry.StatusClass(status); got != permanent {
			t.Errorf("status %d: %v, want permanent", status, got)
		}
	}
	for _, status := range []int{-1, 0, 100, 200, 299} {
		if got := retry.StatusClass(status); got != retry.ClassUnknown {
			t.Errorf("status %d: %v, want unknown", status, got)
		}
	}
	classes(t, p, throttled, &coded{code: "SlowDown", status: 503}, &coded{code: "Throttling", status: 400})
	classes(t, p, permanent, &coded{code: "NoSuchKey", status: 503})
}

// An attempt that reached its own timeout is a timeout for the lists as well, whatever
// error the operation returned; a response that arrived nevertheless counts.
func TestClassOfAnAttemptThatTimedOut(t *testing.T) {
	t.Parallel()
	timeout := []string{"timeout"}
	killed := errors.New("signal: killed")
	for _, c := range []struct {
		policy retry.Policy
		err    error
		want   retry.Class
	}{
		{retry.Policy{}, killed, transient},
		{retry.Policy{}, context.Canceled, transient},
		{retry.Policy{IgnoreOn: timeout}, killed, transient},
		{retry.Policy{IgnoreOn: timeout}, context.Canceled, transient},
		{retry.Policy{RetryOn: timeout}, killed, transient},
		{retry.Policy{}, &retry.Error{Stop: context.DeadlineExceeded}, transient},
		{retry.Policy{}, &coded{code: "AccessDenied"}, permanent},
		{retry.Policy{RetryOn: timeout}, &coded{code: "AccessDenied"}, permanent},
		{retry.Policy{}, &coded{code: "SlowDown"}, throttled},
		{retry.Policy{Classify: func(error) retry.Class { return ignored }}, killed, ignored},
		{retry.Policy{}, retry.Permanent(killed), permanent},
	} {
		d := c.policy.Decide(retry.Outcome{Attempt: 1, Err: c.err, TimedOut: true}, 0)
		if d.Class != c.want {
			t.Errorf("%v with ignore_on %q: %v, want %v", c.err, c.policy.IgnoreOn, d.Class, c.want)
		}
		if final := len(c.policy.IgnoreOn) > 0; final && !errors.Is(d.Stop, retry.ErrPermanent) {
			t.Errorf("%v with ignore_on %q is retried: %+v", c.err, c.policy.IgnoreOn, d)
		}
	}
}

// A mark changes neither the text nor the identity of an error, and nil stays nil.
func TestMarks(t *testing.T) {
	t.Parallel()
	for name, mark := range map[string]func(error) error{
		"Transient": retry.Transient, "Permanent": retry.Permanent, "Conflict": retry.Conflict, "Ignored": retry.Ignored,
		"After": func(err error) error { return retry.After(err, time.Second) },
	} {
		if err := mark(nil); err != nil {
			t.Errorf("%s(nil) is %v", name, err)
		}
		c := &coded{code: "X"}
		err := mark(c)
		if got, ok := errors.AsType[*coded](err); err.Error() != c.Error() || !errors.Is(err, c) || !ok || got != c {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClassString(t *testing.T) {
	t.Parallel()
	var got []string
	for c := range retry.Class(7) {
		got = append(got, c.String())
	}
	if want := []string{"unknown", "transient", "throttled", "conflict", "permanent", "ignored", "Class(6)"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A says error has a RetryableError method, like some errors of the AWS SDK.
type says bool

func (s says) Error() string        { return "says so" }
func (s says) RetryableError() bool { return bool(s) }

// RetryableError ranks below the code and above the status.
func TestClassOfWhatErrorsSay(t *testing.T) {
	t.Parallel()
	p := &retry.Policy{}
	classes(t, p, transient, says(true), errors.Join(&coded{status: 401}, says(true)), driver.ErrBadConn)
	classes(t, p, permanent, says(false), errors.Join(&coded{status: 503}, says(false)))
	classes(t, p, throttled, errors.Join(&coded{code: "SlowDown"}, says(true)))
	classes(t, p, unknown, sql.ErrNoRows)
}

// For a retry or a breaker around it, the end of a retry has the class that its own policy gave the last error, and
// not the one that the general rules would.
func TestClassOfTheEndOfARetry(t *testing.T) {
	t.Parallel()
	quick := retry.Policy{MaxAttempts: 2, BaseDelay: 1, Jitter: retry.NoJitter, Observe: func(context.Context, retry.Event) {}}
	with := func(change func(*retry.Policy)) *retry.Policy { p := quick; change(&p); return &p }
	give := func(c retry.Class) *retry.Policy {
		return with(func(p *retry.Policy) { p.Classify = func(error) retry.Class { return c } })
	}
	shut := with(func(p *retry.Policy) {
		p.Classify, p.Breaker = retry.Always, breaker(circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Hour})
	})
	second := func(first, then error) func(context.Context) error {
		f, _ := calls(first, then)
		return f
	}
	for name, c := range map[string]struct {
		policy *retry.Policy
		f      func(context.Context) error
		want   retry.Class
	}{
		"exhausted, transient":    {give(transient), second(errDown, errDown), transient},
		"exhausted, conflict":     {give(conflict), second(errDown, errDown), conflict},
		"exhausted, throttled":    {give(throttled), second(errDown, errDown), throttled},
		"permanent, later":        {&quick, second(retry.Transient(errDown), retry.Permanent(errDown)), permanent},
		"unknown, later":          {&quick, second(&coded{status: 503}, errDown), unknown},
		"ignored, later":          {&quick, second(&coded{status: 503}, retry.Ignored(errDown)), ignored},
		"no call was made":        {shut, second(errDown, errDown), ignored},
		"given up for the caller": {give(transient), second(errDown, retry.Final(errDown)), transient},
	} {
		err := retry.Do(t.Context(), c.policy, c.f)
		if _, ok := errors.AsType[*retry.Error](err); !ok {
			t.Errorf("%s: %v is no *Error", name, err)
		}
		if got, _ := new(retry.Policy).ClassOf(fmt.Errorf("x: %w", err)); got != c.want {
			t.Errorf("%s: %v is %v, want %v", name, err, got, c.want)
		}
	}
}

// Classify is called once for each failed attempt, even if it returns ClassUnknown.
func TestClassifyIsCalledOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []retry.Class{retry.ClassUnknown, retry.ClassTransient, retry.ClassPermanent} {
		n := 0
		p := retry.Policy{MaxAttempts: 3, BaseDelay: 1, MaxDelay: 1, Jitter: retry.NoJitter, Classify: func(error) retry.Class { n++; return c }}
		f, made := calls(errDown, errDown, errDown)
		_ = retry.Do(t.Context(), &p, f)
		if n != made.n {
			t.Errorf("%v: called %d times for %d failed attempts", c, n, made.n)
		}
	}
}
