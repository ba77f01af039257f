"""Who there is: cases and the groups they are in, whether a number may be texted, and the people of the programme.

One phone has one owner, and a STOP holds for the phone whoever has it: both rules live here.
"""
