package cell

// Sealed is what a circuit.Store is: a [Store] whose methods its users do not
// see, and which they cannot make themselves.
type Sealed interface{ sealed() Store }

// Unseal returns the Store that s hides.
func Unseal(s Sealed) Store { return s.sealed() }

// A Seal makes the type that embeds it [Sealed]. Set it with [Hide] before the
// first use.
type Seal struct{ store Store }

// Hide returns the Seal of s.
func Hide(s Store) Seal { return Seal{s} }

func (s *Seal) sealed() Store { return s.store }

// A SealedMemory makes the type that embeds it a Sealed [Memory]. Its zero value
// is ready for use.
type SealedMemory struct{ memory Memory }

func (s *SealedMemory) sealed() Store { return &s.memory }
