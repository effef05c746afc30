package httpretry_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The Transport of WithPolicy has its own policy and breakers, and the other one's Registry, SpoolTotal and options; the
// first one stays as it is.
func TestWithPolicy(t *testing.T) {
	server := httptestfault.New(httptestfault.Responses(httptestfault.Response{Status: 503}))
	defer server.Close()
	base := server.Transport()
	defer base.CloseIdleConnections()
	registry := new(circuit.Registry)
	first := httpretry.NewTransport(base, httpretry.Options{Policy: quick(), AttemptHeader: "Attempt", SpoolTotal: 10, Registry: registry})
	patient := quick()
	patient.MaxAttempts = 5
	other := first.WithPolicy(patient, nil)
	guarded := other.WithPolicy(patient, &circuit.Config{FailureThreshold: 2, RecoveryTimeout: time.Hour})
	large := strings.Repeat("x", 2<<20) // more than SpoolTotal and what is in memory
	for _, tt := range []struct {
		name      string
		transport *httpretry.Transport
		upload    string
		attempts  int
		refused   bool
	}{
		{"the other policy", other, "", 5, false},
		{"the first one's policy", first, "", 3, false},
		{"no room for the body", other, large, 1, false},
		{"a breaker", guarded, "", 2, false},
		{"the breaker is open", guarded, "", 0, true},
		{"not for the others", other, "", 5, false},
	} {
		before := len(server.Requests())
		method := http.MethodGet
		if tt.upload != "" {
			method = http.MethodPut
		}
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader(tt.upload))
		if err != nil {
			t.Fatal(err)
		}
		req.GetBody = nil // only the spool can send the body again
		res, err := tt.transport.RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		made := server.Requests()[before:]
		if len(made) != tt.attempts || (err != nil) != tt.refused {
			t.Errorf("%s: %d attempts, %v; want %d", tt.name, len(made), err, tt.attempts)
		}
		if len(made) > 0 && made[0].Header.Get("Attempt") != "1" {
			t.Errorf("%s: the option AttemptHeader is lost: %v", tt.name, made[0].Header)
		}
	}
	if all := registry.All(); len(all) != 1 {
		t.Errorf("%d breakers in the shared Registry, want 1", len(all))
	}
	if _, _, err := (row{}).do(t, server.URL, first.WithPolicy(&retry.Policy{MaxAttempts: -2}, nil)); err == nil {
		t.Error("an invalid policy was accepted")
	}
}
