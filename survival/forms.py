"""Forms of the confirm pages."""

from django import forms


class KeyKeptForm(forms.Form):
    """Where the key is, so that somebody finds it on the night."""

    where = forms.CharField(
        max_length=300,
        label="Where is the key kept?",
        help_text="A name that people understand, such as “safe in the Berlin office”. Printed on the offline card. "
        "Never the key itself.",
    )
