package s3test

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"time"
)

// Faults are seeded faults: each kind happens to a request with a probability of its own.
//
// The fault of the nth request for a target (operation, method, path, query: see [Request.N]) depends only on Seed, the
// target and n, not on time or on requests for other targets, so concurrent clients see the same faults in each run.
// A kind that cannot happen to a request (CutBody to a PUT) has no effect on that request. The zero Faults has none.
type Faults struct {
	Seed uint64

	// Probabilities, 0..1, together at most 1.
	SlowDown        float64 // 503 SlowDown
	InternalError   float64 // 500 InternalError
	TooManyRequests float64 // 429 with Retry-After
	Reset           float64 // TCP reset before the response
	LostResponse    float64 // writes: carried out, then a TCP reset
	CutRequest      float64 // PutObject and UploadPart: TCP reset within the request's body
	CutBody         float64 // GET: the response's body ends early
	ResetBody       float64 // GET: TCP reset within the response's body
	Stall           float64 // GET: the response's body stops for StallTime, then the connection ends
	ErrorIn200      float64 // CompleteMultipartUpload and CopyObject: 200 with an error in the body
	Slow            float64 // the response is late by SlowTime

	RetryAfter time.Duration // the Retry-After of a 429, rounded up to whole seconds; 0 means 1 s
	SlowTime   time.Duration // 0 means 50 ms
	StallTime  time.Duration // 0 means 1 s

	// MaxConsecutive is how many requests for one target may fail in a row (Slow does not count), so a client with more
	// attempts always succeeds. 0 means 3; less than 0 means no limit.
	MaxConsecutive int
}

// TypicalFaults returns a mix in which about every fourth request fails, in each of the ways above but Stall. The AWS SDK
// alone does not retry the 429s and the bodies that end early.
func TypicalFaults(seed uint64) Faults {
	return Faults{
		Seed: seed, SlowDown: 0.08, InternalError: 0.04, TooManyRequests: 0.02, Reset: 0.04, LostResponse: 0.03,
		CutRequest: 0.03, CutBody: 0.06, ResetBody: 0.02, ErrorIn200: 0.03, Slow: 0.05,
	}
}

// Validate returns an error that names the first field that is out of its range, its value and what is allowed.
func (f Faults) Validate() error {
	sum := 0.0
	for _, chance := range f.chances() {
		if !(chance.rate >= 0 && chance.rate <= 1) {
			return fmt.Errorf("s3test: Faults.%s is %v, want a probability 0..1", chance.field, chance.rate)
		}
		sum += chance.rate
	}
	if sum > 1+1e-9 {
		return fmt.Errorf("s3test: the probabilities of Faults add up to %v, want at most 1", sum)
	}
	for _, wait := range []struct {
		field string
		value time.Duration
	}{{"RetryAfter", f.RetryAfter}, {"SlowTime", f.SlowTime}, {"StallTime", f.StallTime}} {
		if wait.value < 0 {
			return fmt.Errorf("s3test: Faults.%s is %v, want 0 or more", wait.field, wait.value)
		}
	}
	return nil
}

// chance is one kind of Faults: how often, what, and to which requests it can happen.
type chance struct {
	field string
	rate  float64
	fault Fault
	fits  func(Request) bool // nil means all
}

// chances are in a fixed order, which is part of what a seed means.
func (f Faults) chances() []chance {
	return []chance{
		{"SlowDown", f.SlowDown, SlowDown(), nil},
		{"InternalError", f.InternalError, InternalError(), nil},
		{"TooManyRequests", f.TooManyRequests, TooManyRequests(cmp.Or(f.RetryAfter, time.Second)), nil},
		{"Reset", f.Reset, Reset(), nil},
		{"LostResponse", f.LostResponse, LostResponse(), writes},
		{"CutRequest", f.CutRequest, CutRequest(0), uploads},
		{"CutBody", f.CutBody, CutBody(0), reads},
		{"ResetBody", f.ResetBody, ResetBody(0), reads},
		{"Stall", f.Stall, StallBody(0, cmp.Or(f.StallTime, time.Second)), reads},
		{"ErrorIn200", f.ErrorIn200, ErrorIn200(), assembles},
		{"Slow", f.Slow, SlowResponse(cmp.Or(f.SlowTime, 50*time.Millisecond)), nil},
	}
}

func writes(r Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

func reads(r Request) bool { return r.Method == http.MethodGet }

func uploads(r Request) bool { return r.Operation == "PutObject" || r.Operation == "UploadPart" }

func assembles(r Request) bool {
	return r.Operation == "CompleteMultipartUpload" || r.Operation == "CopyObject"
}

// decide returns the fault of request r.N for a target whose last run requests failed, and the new run.
func (f Faults) decide(r Request, target string, run int) (Fault, int) {
	fault := f.draw(r, target)
	switch limit := f.MaxConsecutive; {
	case fault.Kind == None || fault.Kind == Slow:
		return fault, 0
	case limit == 0 && run >= 3, limit > 0 && run >= limit:
		return Fault{}, 0
	}
	return fault, run + 1
}

// draw is a pure function of the seed, the target and r.N.
func (f Faults) draw(r Request, target string) Fault {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s#%d", target, r.N)
	random := rand.New(rand.NewPCG(f.Seed, h.Sum64()))
	u, share := random.Float64(), random.Float64()
	for _, chance := range f.chances() {
		if u -= chance.rate; u >= 0 {
			continue
		}
		if chance.fits != nil && !chance.fits(r) {
			return Fault{}
		}
		fault := chance.fault
		if fault.Kind == Cut || fault.Kind == Stall || chance.field == "CutRequest" {
			fault.Share = share
		}
		return fault
	}
	return Fault{}
}
