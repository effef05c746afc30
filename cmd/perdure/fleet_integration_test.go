//go:build integration && unix

package main

import "testing"

// The fleet at full size: what sharing is worth, and that kill -9 changes nothing.
func TestFleetOf200(t *testing.T) {
	const n, attempts = 200, 5
	shared := dead(t, n, 0, "host")
	if shared > threshold-1+abreast {
		t.Errorf("%d requests, want at most %d", shared, threshold-1+abreast)
	}
	if got := dead(t, n, 9, "host"); got > threshold-1+abreast {
		t.Errorf("with some killed: %d requests, want at most %d", got, threshold-1+abreast)
	}
	alone := dead(t, n, 0, "memory")
	if alone != n*attempts {
		t.Errorf("without sharing: %d requests, want %d", alone, n*attempts)
	}
	t.Logf("requests to a dead server: %d shared by the host, %d without sharing", shared, alone)
}
