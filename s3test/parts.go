package s3test

import (
	"bytes"
	"cmp"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing/iotest"
)

// parts is S3 with one more lock: the handler's ListParts reads what its UploadPart writes under another lock. So no part is
// added to an upload while its parts are listed. The lock is never held while waiting for the network.
type parts struct {
	http.Handler

	list sync.RWMutex // read-locked by UploadPart
}

func (p *parts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch operation(r) {
	case "UploadPart", "UploadPartCopy":
		r.Body = arrived(r)
		p.list.RLock()
		defer p.list.RUnlock()
		p.Handler.ServeHTTP(w, r)
	case "ListParts":
		var out recorder
		p.list.Lock()
		p.Handler.ServeHTTP(&out, r)
		p.list.Unlock()
		out.writeTo(w)
	default:
		p.Handler.ServeHTTP(w, r)
	}
}

// arrived reads the request's whole body and returns it; if the body breaks off, the result is its error alone.
func arrived(r *http.Request) io.ReadCloser {
	content := new(bytes.Buffer)
	content.Grow(int(min(max(r.ContentLength, 0), 64<<20)) + bytes.MinRead)
	var body io.Reader = content
	if _, err := content.ReadFrom(r.Body); err != nil {
		body = iotest.ErrReader(err)
	}
	return struct {
		io.Reader
		io.Closer
	}{body, r.Body}
}

func (m *recorder) writeTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), m.header)
	w.WriteHeader(cmp.Or(m.status, http.StatusOK))
	_, _ = m.body.WriteTo(w)
}
