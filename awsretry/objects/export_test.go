package objects

// SetCopyLimit makes objects of more than n bytes be copied in parts.
func (s *Store) SetCopyLimit(n int64) { s.copyLimit = n }
