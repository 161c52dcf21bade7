"""Damaged and hostile files by the thousand: each must end in an error or in a right answer."""
