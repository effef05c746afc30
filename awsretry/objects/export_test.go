package objects

// SetCopyLimit makes objects of more than n bytes be copied in parts.
func (s *Store) SetCopyLimit(n int64) { s.copyLimit = n }

// SetMaxPages makes a listing of more than n pages an error.
func (s *Store) SetMaxPages(n int) { s.maxPages = n }
