package awsretry

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/smithy-go/middleware"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/bound"
	"github.com/seed-0f2c7998/perdure/internal/stall"
)

// maxTags is how many XML tags a body may have. A page of 1000 keys of S3 has some 20,000, a page of 1000 instances
// of EC2 some 400,000. The structures that the SDK makes of them take many times the memory of the text.
const maxTags = 1 << 20

// A document is the body of a success. Until Lift is called it may have [bound.Body] bytes and, if it is XML,
// [maxTags] tags, and must arrive at a rate.
type document struct {
	*bound.Reader

	guard  stall.Guard
	slow   error // how guard has ended the body
	xml    bool  // the body is XML, or will be parsed as XML
	begun  bool  // a byte other than white space has been read
	left   int   // tags
	lifted atomic.Bool

	mu     sync.Mutex
	closed bool   // guarded by mu
	end    func() // called by the first Close, if not nil; guarded by mu
	free   func() // frees the place of the call, if not nil; guarded by mu
}

// newDocument returns body with limits. If asXML is false, the limit of tags holds only for a body that begins as
// XML.
func newDocument(body io.ReadCloser, asXML bool, rate stall.Limits) *document {
	tooLarge := &httpretry.LimitError{What: "response body", Limit: bound.Body}
	return &document{Reader: bound.NewReader(body, bound.Body, tooLarge), guard: stall.Guard{Limits: rate}, xml: asXML, left: maxTags}
}

// Lift ends the limits, for a body that the caller reads as a stream. It may be called while another goroutine reads.
func (d *document) Lift() {
	d.lifted.Store(true)
	d.Reader.Lift()
}

// onClose makes Close call end, and reports whether the body is still open.
func (d *document) onClose(end func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end = end
	return !d.closed
}

// holdPlace makes the body hold a place until it has ended or is closed; free frees it.
func (d *document) holdPlace(free func()) {
	d.mu.Lock()
	d.free = free
	closed := d.closed
	d.mu.Unlock()
	if closed {
		d.freePlace()
	}
}

func (d *document) freePlace() {
	d.mu.Lock()
	free := d.free
	d.free = nil
	d.mu.Unlock()
	if free != nil {
		free()
	}
}

// Close closes the body.
func (d *document) Close() error {
	defer d.freePlace()
	err := d.Reader.Close()
	d.mu.Lock()
	end := d.end
	d.closed, d.end = true, nil
	d.mu.Unlock()
	if end != nil {
		end()
	}
	return err
}

// Read reads from the body, until a limit.
func (d *document) Read(p []byte) (int, error) {
	n, err := d.read(p)
	if err != nil {
		d.freePlace()
	}
	if d.lifted.Load() || !d.isXML(p[:n]) {
		return n, err
	}
	if d.left -= bytes.Count(p[:n], []byte{'<'}); d.left < 0 {
		return 0, &httpretry.LimitError{What: "XML of a response", Limit: maxTags, Unit: "tags"}
	}
	return n, err
}

// read reads from the body, unless it was too slow.
func (d *document) read(p []byte) (n int, err error) {
	if d.lifted.Load() {
		return d.Reader.Read(p)
	}
	if d.slow != nil { // the reader before, such as rootOf, has read until then
		return 0, d.slow
	}
	if n, err = d.guard.Read(d.Reader, p); stall.IsSlow(err) {
		d.slow = err
	}
	return n, err
}

// isXML reports whether the body, whose next bytes are text, is XML.
func (d *document) isXML(text []byte) bool {
	if d.xml || d.begun {
		return d.xml
	}
	text = bytes.TrimLeft(text, " \t\r\n\ufeff")
	d.begun = len(text) > 0
	d.xml = d.begun && text[0] == '<'
	return d.xml
}

// readsXML reports whether the SDK parses the responses to the stack's operation as XML, whatever they begin with.
func readsXML(stack *middleware.Stack) bool {
	step, _ := stack.Deserialize.Get("OperationDeserializer")
	name := strings.ToLower(fmt.Sprintf("%T", step)) // such as *sts.awsAwsquery_deserializeOpGetCallerIdentity
	return strings.Contains(name, ".awsawsquery_") || strings.Contains(name, ".awsec2query_") || strings.Contains(name, ".awsrestxml_")
}
