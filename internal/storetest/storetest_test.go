package storetest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/hoststore"
	"github.com/seed-0f2c7998/perdure/internal/cell"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
	"github.com/seed-0f2c7998/perdure/internal/fleet/memory"
	"github.com/seed-0f2c7998/perdure/internal/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Subject {
		m := new(circuit.Memory)
		return storetest.Subject{Open: func(*testing.T) storetest.Process { return storetest.Process{Store: m} }}
	})
}

func TestHostFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "state")
		return storetest.Subject{
			Open: func(*testing.T) storetest.Process {
				s := hoststore.Open(dir)
				return storetest.Process{Store: s, Close: s.Close}
			},
			Spoil: func(t *testing.T, _ string) {
				t.Helper()
				hoststore.Open(dir).Close()
				names, err := filepath.Glob(filepath.Join(dir, "cells.*"))
				if err != nil || len(names) != 1 {
					t.Fatalf("%v; %v", names, err)
				}
				if err := os.WriteFile(names[0], []byte("something else"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// members returns a function that opens a store of the fleet, each on a node of its own.
func members(server *memory.Server) func(*testing.T) storetest.Process {
	n := 0
	return func(*testing.T) storetest.Process {
		n++
		s := fleet.Start(fleet.Config{
			Name: "fleet", Where: "memory", Node: fmt.Sprint("node-", n), Quorum: 1,
			Sync: 200 * time.Millisecond, Stale: 2 * time.Second, Connect: server.Connect,
		})
		hidden := cell.Hide(s.Cells())
		return storetest.Process{Store: &hidden, Ready: s.Ready, Close: s.Close}
	}
}

func TestFleetInMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Subject {
		server := new(memory.Server)
		return storetest.Subject{Open: members(server), Away: server.Stop, Back: server.Start}
	})
}

// TestFleetOverABadNetwork runs the tests over a network that delays, loses, repeats and
// reorders messages.
func TestFleetOverABadNetwork(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Subject {
		server := new(memory.Server)
		server.Disturb(memory.Faults{Delay: 20 * time.Millisecond, Loss: 0.02, LostPush: 0.3, Duplicate: 0.3}, 1)
		return storetest.Subject{Open: members(server), Away: server.Stop, Back: server.Start, Noisy: true}
	})
}
